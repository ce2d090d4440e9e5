//! Every screen in words: at 80x24, at 120x40, with and without colour.

use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;

use crate::cli::testing::noon;
use crate::cli::top::model::Model;
use crate::cli::top::model::picture::{News, Outcome};
use crate::cli::top::sample::{ago, model, type_keys};
use crate::cli::top::view::draw;
use crate::cli::top::view::theme::Colors;

/// The screens by the keys that lead there.
const SCREENS: [(&str, &str); 14] = [
    ("tree", "1"),
    ("tree_sorted", "s s"),
    ("tree_filtered", "/ c r u Enter"),
    ("agent", "/ c r u Enter End Enter"),
    ("agent_events", "/ c r u Enter End Enter Tab"),
    ("circuits", "2"),
    ("tasks", "3 Down"),
    ("tasks_filtered", "3 / s t a t e : f Enter"),
    ("letters", "4"),
    ("letter", "4 Enter"),
    ("events", "5"),
    ("event", "5 Up Enter"),
    ("help", "?"),
    ("confirm", "/ c r u Enter End K"),
];

fn buffer(model: &Model, (width, height): (u16, u16), now: Timestamp, colors: Colors) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, now, colors)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let lines = buffer.content.chunks(width);
    let lines = lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>());
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn at(keys: &str, size: (u16, u16)) -> Model {
    let mut model = model();
    model.ui.size = size;
    type_keys(&mut model, keys);
    model
}

fn shown(model: &Model, size: (u16, u16)) -> String {
    text(&buffer(model, size, noon(), Colors::Off))
}

#[test]
fn every_screen_is_as_reviewed() {
    for (name, keys) in SCREENS {
        for size in [(80, 24), (120, 40)] {
            let name = format!("{name}_{}x{}", size.0, size.1);
            insta::assert_snapshot!(name, shown(&at(keys, size), size));
        }
    }
}

#[test]
fn colours_say_nothing_that_words_and_shapes_do_not_say() {
    for (name, keys) in SCREENS {
        let size = (100, 30);
        let model = at(keys, size);
        let plain = buffer(&model, size, noon(), Colors::Off);
        let colored = buffer(&model, size, noon(), Colors::On);
        assert_eq!(text(&plain), text(&colored), "{name}");
        let has_color = |buffer: &Buffer| {
            let is = |color| color != Color::Reset;
            buffer.content.iter().any(|cell| is(cell.fg) || is(cell.bg))
        };
        assert!(!has_color(&plain), "{name}");
        assert!(has_color(&colored), "{name}");
    }
}

#[test]
fn a_daemon_that_is_away_is_told_over_the_last_picture() {
    let mut model = model();
    model.take(News::Away("no daemon answers at nats://127.0.0.1:4222".to_owned()), noon());
    let later = ago(-75);
    model.take(News::Away("no daemon answers at nats://127.0.0.1:4222".to_owned()), later);
    let buffer = buffer(&model, (80, 24), later, Colors::On);
    insta::assert_snapshot!("away", text(&buffer));
    let body = buffer.content.iter().skip(3 * 80).take(10 * 80);
    assert!(body.clone().all(|cell| cell.fg == Color::Reset), "what is old has no colour");
    // An answer brings everything back.
    model.take(News::Looked(Box::new(crate::cli::top::sample::look())), later);
    assert!(!shown(&model, (80, 24)).contains("unreachable"));
}

#[test]
fn what_was_not_done_is_told_with_what_to_do() {
    let mut model = model();
    let said = [
        "error[PV0107]: cruncher is quarantined; it cannot be drained",
        "  next: provost reset cruncher closes its circuit",
    ];
    let result = Err(said.map(str::to_owned).to_vec());
    model.take(News::Done(Outcome { line: "provost drain cruncher".to_owned(), result }), noon());
    insta::assert_snapshot!("refused", shown(&model, (80, 24)));
}

#[test]
fn a_terminal_that_is_too_small_is_told_so_and_any_size_is_drawn() {
    for size in [(59, 40), (200, 14), (20, 3), (1, 1)] {
        let shown = shown(&model(), size);
        assert!(!shown.contains("Tree"), "{size:?}");
    }
    assert!(shown(&model(), (40, 10)).contains("provost top needs 60x15"));
    for (name, keys) in SCREENS {
        for size in [(60, 15), (61, 16), (79, 24), (132, 43), (300, 100)] {
            let shown = shown(&at(keys, size), size);
            assert!(shown.contains("1 Tree"), "{name} {size:?}");
            assert_eq!(shown.lines().count(), usize::from(size.1));
        }
    }
}

#[test]
fn what_is_cut_is_named() {
    let shown = shown(&at("Down Space Home", (60, 15)), (60, 15));
    assert!(shown.contains("no room for"), "{shown}");
    assert!(shown.contains("rows 1-"), "{shown}");
}

#[test]
fn text_from_outside_cannot_move_the_cursor() {
    let mut model = model();
    let lines = vec!["\u{1b}[2J\u{1b}]0;gotcha\u{7}\r\nboo\u{9b}5A".to_owned()];
    model.take(News::Log("cruncher".to_owned(), Ok(lines)), noon());
    type_keys(&mut model, "/ c r u Enter End Enter");
    let buffer = buffer(&model, (80, 24), noon(), Colors::On);
    assert!(buffer.content.iter().all(|cell| !cell.symbol().chars().any(char::is_control)));
    assert!(text(&buffer).contains("boo"));
}

#[test]
fn nothing_is_known_at_first_and_that_is_said() {
    let model = Model::new(jiff::tz::TimeZone::UTC, Vec::new());
    let shown = shown(&model, (80, 24));
    assert!(shown.contains("asking the daemon"), "{shown}");
    assert!(shown.contains("waiting for the daemon's first answer"), "{shown}");
}
