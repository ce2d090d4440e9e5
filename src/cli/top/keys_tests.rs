//! Keys as tables: what is typed, what is looked at afterwards, what is wished for.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::cli::testing::noon;
use crate::cli::top::actions::Act;
use crate::cli::top::bindings::Place;
use crate::cli::top::keys::{Wish, name, place};
use crate::cli::top::model::picture::{News, Outcome};
use crate::cli::top::model::ui::{Dialog, Following, Screen, Told};
use crate::cli::top::model::{Model, Want};
use crate::cli::top::sample::{events, id, model, type_keys};

/// The selected row after these keys.
fn selected(keys: &str) -> String {
    let mut model = model();
    type_keys(&mut model, keys);
    model.selected(noon()).unwrap_or_default()
}

fn deed(wish: Option<Wish>) -> String {
    match wish {
        Some(Wish::Run(deed)) => deed.words.join(" "),
        other => panic!("no deed: {other:?}"),
    }
}

#[test]
fn keys_lead_to_rows() {
    for (keys, row) in [
        ("1", "root"),
        ("Down", "system"),
        ("j j", "downstreams"),
        ("End", "http"),
        ("End Home", "root"),
        ("Up", "root"),
        ("Down Space Down", "keeper"),
        ("Down Space Down Left", "system"),
        ("Down Space Space Down", "downstreams"),
        ("End k Left", "agents"),
        ("End k Left Left End", "http"),
        ("/ f l a Enter End", "flaky"),
        ("/ f l x Backspace a Enter End", "flaky"),
        ("/ n o w h e r e Enter", ""),
        ("/ x Esc", "root"),
        ("/ f l a Enter Esc", "root"),
        ("s s End k", "system"),
        ("2 j", "cruncher"),
        ("3 j", "task-8"),
        ("3 / a g e : > 9 m Enter", ""),
        ("3 / a g e : > 5 Enter", "task-9"),
        ("4", "01900000-0000-7000-8000-000000000202"),
        ("5", "01900000-0000-7000-8000-000000000009"),
        ("5 Up c", "01900000-0000-7000-8000-000000000007"),
        ("5 s s s", "01900000-0000-7000-8000-000000000009"),
        ("Tab Tab", "task-9"),
        ("Tab Tab Tab Tab Tab", "root"),
    ] {
        assert_eq!(selected(keys), row, "{keys}");
    }
}

#[test]
fn a_way_back_leads_home_step_by_step() {
    let mut model = model();
    type_keys(&mut model, "3 / t a s k Enter Enter ?");
    for (over, screen, filter) in [
        (2, Screen::Tasks, "task"),
        (1, Screen::Tasks, "task"),
        (0, Screen::Tasks, "task"),
        (0, Screen::Tasks, ""),
        (0, Screen::Tree, ""),
        (0, Screen::Tree, ""),
    ] {
        assert_eq!((model.ui.over.len(), model.ui.screen), (over, screen));
        assert_eq!(model.ui.list().filter, filter);
        type_keys(&mut model, "Esc");
    }
}

#[test]
fn nothing_is_done_without_an_answer_and_cancel_is_marked_first() {
    let mut model = model();
    type_keys(&mut model, "/ c r u Enter End");
    assert_eq!(type_keys(&mut model, "K"), None);
    assert_eq!(place(&model), Place::Confirm);
    assert_eq!(type_keys(&mut model, "Enter"), None);
    assert_eq!(model.ui.dialog, None);
    assert_eq!(type_keys(&mut model, "K Tab Esc"), None);
    assert_eq!(model.ui.dialog, None);
    // Keys of the screen below do nothing.
    assert_eq!(type_keys(&mut model, "K q S"), None);
    assert_eq!(
        type_keys(&mut model, "Tab Tab Tab Enter").map(|wish| deed(Some(wish))).unwrap(),
        "kill cruncher"
    );
    assert_eq!(model.ui.busy.as_deref(), Some("provost kill cruncher"));
}

#[test]
fn each_deed_is_the_command_that_somebody_could_type() {
    let acts = [
        ("/ c r u Enter End", "R", "restart cruncher"),
        ("/ c r u Enter End", "S", "stop cruncher"),
        ("/ c r u Enter End", "D", "drain cruncher"),
        ("/ c r u Enter End", "U", "resume cruncher"),
        ("/ c r u Enter End", "K", "kill cruncher"),
        ("/ c r u Enter End", "Z", "reset cruncher"),
        ("/ c r u Enter End Enter", "R", "restart cruncher"),
        ("2", "O", "circuit backend open"),
        ("2", "C", "circuit backend closed"),
        ("2", "A", "circuit backend auto"),
        ("3", "C", "task cancel task-9"),
        ("3 End", "R", "task retry task-6"),
        ("4", "R", "dlq replay 01900000-0000-7000-8000-000000000202"),
        ("4", "D", "dlq drop 01900000-0000-7000-8000-000000000202"),
    ];
    for (before, act, words) in acts {
        let mut model = model();
        type_keys(&mut model, before);
        let wish = type_keys(&mut model, &format!("{act} Right Enter"));
        assert_eq!(deed(wish), words);
        // The words are a command line that is understood.
        let line = ["provost"].into_iter().chain(words.split(' '));
        let parsed = <crate::cli::arguments::Arguments as clap::Parser>::try_parse_from(line);
        assert!(parsed.is_ok(), "{words}");
    }
    let dashed = Act::TaskCancel.on("-x").words;
    assert_eq!(dashed, ["task", "cancel", "--", "-x"]);
}

#[test]
fn what_cannot_be_done_is_refused_before_it_is_asked() {
    let mut model = model();
    type_keys(&mut model, "End K");
    assert_eq!(model.ui.dialog, None);
    let Some(Told::Badly(why)) = &model.ui.told else { panic!("not told") };
    assert!(why.contains("http is no agent"), "{why}");
    model.ui.busy = Some("provost stop coder".to_owned());
    type_keys(&mut model, "/ c r u Enter End K");
    let Some(Told::Badly(why)) = &model.ui.told else { panic!("not told") };
    assert!(why.contains("provost stop coder is still under way"), "{why}");
    // What waits for a daemon that is away would be done at a time that nobody expects.
    model.take(News::Away("gone".to_owned()), noon());
    type_keys(&mut model, "K");
    assert_eq!(model.ui.dialog, None);
    let Some(Told::Badly(why)) = &model.ui.told else { panic!("not told") };
    assert!(why.contains("the daemon is away"), "{why}");
}

#[test]
fn the_end_of_a_command_is_told() {
    let mut model = model();
    let line = || "provost stop coder".to_owned();
    model.ui.busy = Some(line());
    model.take(News::Done(Outcome { line: line(), result: Ok(Vec::new()) }), noon());
    assert_eq!(model.ui.busy, None);
    assert_eq!(model.ui.told, Some(Told::Well("provost stop coder: done".to_owned())));
    let failed = Outcome { line: line(), result: Err(vec!["no".to_owned()]) };
    model.take(News::Done(failed.clone()), noon());
    assert_eq!(model.ui.dialog, Some(Dialog::Result(failed)));
    assert_eq!(type_keys(&mut model, "y"), Some(Wish::Copy(line())));
    type_keys(&mut model, "Esc");
    assert_eq!(model.ui.dialog, None);
}

#[test]
fn what_is_copied_leads_to_the_same_daemon() {
    for (keys, words) in [
        ("/ c r u Enter End y", "status cruncher"),
        ("2 y", "downstream show backend"),
        ("3 y", "task show task-9"),
        ("4 y", "dlq show 01900000-0000-7000-8000-000000000202"),
        ("5 y", "events"),
        ("End y", "events --for http"),
        ("/ c r u Enter End K y", "kill cruncher"),
    ] {
        let line = format!("provost {words} --state-dir '/run/it'\\''s here'");
        assert_eq!(type_keys(&mut model(), keys), Some(Wish::Copy(line)), "{keys}");
    }
}

#[test]
fn only_what_is_shown_is_asked_for() {
    for (keys, want) in [
        ("1", Want::Nothing),
        ("2", Want::Downstreams),
        ("3", Want::Tasks),
        ("3 Enter", Want::History("task-9".to_owned())),
        ("4", Want::Letters),
        ("4 Enter", Want::Letters),
        ("5", Want::Nothing),
        ("/ c r u Enter End Enter", Want::Log("cruncher".to_owned())),
        ("End Enter", Want::Nothing),
    ] {
        let mut model = model();
        type_keys(&mut model, keys);
        assert_eq!(model.want(), want, "{keys}");
    }
}

#[test]
fn events_are_followed_until_somebody_looks_back() {
    let newest = |model: &mut Model, number: u32| {
        let mut seen = events().remove(0);
        seen.envelope.id = id(number).parse().unwrap();
        model.take(News::Event(Box::new(seen)), noon());
        model.selected(noon()).unwrap() == id(number)
    };
    let mut model = model();
    type_keys(&mut model, "5");
    assert!(newest(&mut model, 20));
    type_keys(&mut model, "Up");
    assert!(!newest(&mut model, 21));
    assert_eq!(model.ui.following, Following::Off);
    type_keys(&mut model, "End");
    assert!(newest(&mut model, 22));
    type_keys(&mut model, "f");
    assert!(!newest(&mut model, 23));
    type_keys(&mut model, "f");
    assert_eq!(model.selected(noon()).unwrap(), id(23));
}

#[test]
fn the_cause_of_an_event_is_found_although_it_is_filtered_out() {
    let mut model = model();
    type_keys(&mut model, "5 / d e c i d e d Enter End c");
    assert_eq!(model.selected(noon()).unwrap(), id(7));
    assert_eq!(model.ui.list().filter, "");
    type_keys(&mut model, "Home c");
    let Some(Told::Badly(why)) = &model.ui.told else { panic!("not told") };
    assert!(why.contains("first of its chain"), "{why}");
}

#[test]
fn ends_and_stops_are_wished_for_everywhere() {
    for keys in ["1", "/", "K", "End k k k K", "5 Enter", "?"] {
        let mut model = model();
        type_keys(&mut model, keys);
        assert_eq!(type_keys(&mut model, "Ctrl-c"), Some(Wish::Interrupt), "{keys}");
        assert_eq!(type_keys(&mut model, "Ctrl-z"), Some(Wish::Suspend), "{keys}");
    }
    assert_eq!(type_keys(&mut model(), "q"), Some(Wish::Quit));
    assert_eq!(type_keys(&mut model(), "/ q"), None);
    assert_eq!(type_keys(&mut model(), "Ctrl-r"), Some(Wish::Refresh));
    assert_eq!(type_keys(&mut model(), "Ctrl-l"), Some(Wish::Redraw));
}

#[test]
fn a_filter_is_as_long_as_it_may_be() {
    let mut model = model();
    type_keys(&mut model, "/");
    for _ in 0..1_000 {
        type_keys(&mut model, "x");
    }
    assert_eq!(model.ui.list().filter.len(), crate::cli::top::model::ui::FILTER_MAX);
    type_keys(&mut model, "Ctrl-u");
    assert_eq!(model.ui.list().filter, "");
}

#[test]
fn keys_have_the_names_of_the_tables() {
    for (code, modifiers, expected) in [
        (KeyCode::Char('a'), KeyModifiers::NONE, "a"),
        (KeyCode::Char('K'), KeyModifiers::SHIFT, "K"),
        (KeyCode::Char(' '), KeyModifiers::NONE, "Space"),
        (KeyCode::Char('C'), KeyModifiers::CONTROL, "Ctrl-c"),
        (KeyCode::F(5), KeyModifiers::NONE, "F5"),
        (KeyCode::Insert, KeyModifiers::NONE, ""),
    ] {
        assert_eq!(name(KeyEvent::new(code, modifiers)), expected);
    }
}
