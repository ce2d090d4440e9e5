//! Whatever we can write, we read back the same.

use proptest::prelude::{any, proptest};
use proptest::test_runner::Config;
use provost::protocol::command::AgentCommand;
use provost::protocol::decision::DecisionRecord;
use provost::protocol::event::Envelope;
use provost::protocol::fact::Fact;
use provost::protocol::id::AgentId;
use provost::protocol::spec::ChildSpec;
use provost::protocol::subject::{Subject, SubjectPrefix};

use crate::wire::arbitrary::{child_spec, command, decision, fact};
use crate::wire::samples::envelope;

fn config() -> Config {
    // No file of past failures: a failure prints its smallest case, which becomes a test.
    Config { failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_event_is_read_as_it_was_written(fact in fact()) {
        let sealed = envelope(&fact);
        let text = serde_json::to_vec(&sealed).unwrap();
        let read: Envelope = serde_json::from_slice(&text).unwrap();
        assert_eq!(read, sealed);
        assert_eq!(Fact::read(&read.event_type, &read.data).unwrap(), Some(fact));
    }

    #[test]
    fn a_command_is_read_as_it_was_written(command in command()) {
        let text = serde_json::to_vec(&command).unwrap();
        assert_eq!(serde_json::from_slice::<AgentCommand>(&text).unwrap(), command);
    }

    #[test]
    fn a_decision_is_read_as_it_was_written(record in decision()) {
        let text = serde_json::to_vec(&record).unwrap();
        assert_eq!(serde_json::from_slice::<DecisionRecord>(&text).unwrap(), record);
    }

    #[test]
    fn a_spec_is_read_as_it_was_written(spec in child_spec()) {
        let text = serde_json::to_vec(&spec).unwrap();
        assert_eq!(serde_json::from_slice::<ChildSpec>(&text).unwrap(), spec);
    }

    #[test]
    fn any_text_is_an_identifier_or_says_why_not(text in any::<String>()) {
        match text.parse::<AgentId>() {
            Ok(id) => assert_eq!(id.as_str(), text),
            Err(error) => assert!(error.to_string().starts_with("identifier ")),
        }
    }

    #[test]
    fn any_subject_that_is_read_is_written_the_same(text in "[a-z.<>*]{0,40}") {
        if let Some(subject) = Subject::parse(&text) {
            assert_eq!(subject.to_string(), text);
        }
    }

    #[test]
    fn a_prefix_comes_off_as_it_was_put_on(prefix in "[a-z_-]{1,8}(\\.[a-z_-]{1,8}){0,3}") {
        let prefix: SubjectPrefix = prefix.parse().unwrap();
        let full = Subject::Events.under(&prefix);
        assert_eq!(prefix.strip(&full), Some("supervision.events"));
    }

    #[test]
    fn nothing_makes_the_readers_panic(bytes in any::<Vec<u8>>()) {
        drop(serde_json::from_slice::<AgentCommand>(&bytes));
        drop(serde_json::from_slice::<Envelope>(&bytes));
    }
}
