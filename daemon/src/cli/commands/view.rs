//! The terminal view of `--watch`: a text that is looked at again every second, with a title, a status line and
//! scrolling.
//!
//! The terminal is restored when the view ends: by `q`, Ctrl-C, a signal, an error, or a panic (by ratatui's hook).

use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::CliError;
use super::overview_text::ALARMS;
use crate::node::assembly::stop_signal;

/// The pause between two looks.
pub(super) const WATCH: Duration = Duration::from_secs(1);
/// How long the reader of keys waits at most until it sees that the view has ended.
const KEYS: Duration = Duration::from_millis(100);
/// The age from which the text is marked as old.
const OLD: Duration = Duration::from_secs(3);

/// The state of the view.
#[derive(Debug, Default)]
struct View {
    text: String,
    /// How old the text is.
    age: Duration,
    /// Why the last look failed.
    error: Option<String>,
    /// The number of lines above the visible ones.
    scroll: u16,
}

/// Shows the text of `look` until the user quits. A look that fails does not end the view: it says so.
pub(super) async fn run(look: impl AsyncFn() -> Result<String, CliError>) -> Result<(), CliError> {
    // From here on a signal ends the view, so that none leaves the terminal as it is now set.
    let stop = stop_signal();
    let mut terminal = ratatui::try_init().map_err(CliError::failed)?;
    let ended = watch(&mut terminal, look, stop).await;
    ratatui::try_restore().map_err(CliError::failed)?;
    ended
}

async fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    look: impl AsyncFn() -> Result<String, CliError>,
    stop: impl Future<Output = ()>,
) -> Result<(), CliError> {
    let (mut view, mut keys) = (View::default(), keys());
    let (mut taken, mut next) = (Instant::now(), Instant::now());
    tokio::pin!(stop);
    loop {
        let due = next;
        let looking = async {
            sleep_until(due).await;
            look().await
        };
        tokio::pin!(looking);
        // Keys are obeyed and the age is shown while an answer is awaited.
        let looked = loop {
            view.age = taken.elapsed();
            terminal.draw(|frame| view.draw(frame)).map_err(CliError::failed)?;
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                event = keys.recv() => match event {
                    Some(event) if view.takes(&event) => {}
                    Some(_) | None => return Ok(()),
                },
                looked = &mut looking => break looked,
                () = tokio::time::sleep(WATCH) => {}
            }
        };
        next = Instant::now() + WATCH;
        match looked {
            Ok(text) => (view.text, view.error, taken) = (text, None, Instant::now()),
            Err(error) => view.error = Some(error.to_string()),
        }
    }
}

/// Receives keys and changes of size, until the receiver is dropped.
#[expect(clippy::disallowed_methods, reason = "the terminal of a command is no part of the simulator")]
fn keys() -> mpsc::Receiver<Event> {
    let (send, receive) = mpsc::channel(16);
    tokio::task::spawn_blocking(move || {
        while !send.is_closed() {
            match event::poll(KEYS) {
                Ok(false) => {}
                Ok(true) => {
                    let Ok(event) = event::read() else { return };
                    let _ = send.blocking_send(event);
                }
                Err(_) => return,
            }
        }
    });
    receive
}

impl View {
    /// Obeys a key. Answers whether the view goes on.
    fn takes(&mut self, event: &Event) -> bool {
        let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else { return true };
        let is_interrupt = *code == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL);
        let last = u16::try_from(self.text.lines().count()).unwrap_or(u16::MAX).saturating_sub(1);
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if is_interrupt => return false,
            KeyCode::Down | KeyCode::Char('j') => self.scroll = (self.scroll + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll = (self.scroll + 10).min(last),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
        true
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let areas = Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]);
        let [head, body, foot] = areas.areas(frame.area());
        let (title, rest) = self.text.split_once('\n').unwrap_or(("waiting for an answer", ""));
        let bar = Style::new().add_modifier(Modifier::REVERSED);
        frame.render_widget(Paragraph::new(format!("lockstep  {title}")).style(bar), head);
        let lines = styled(rest);
        let hidden = lines.len().saturating_sub(usize::from(body.height));
        let scroll = self.scroll.min(u16::try_from(hidden).unwrap_or(u16::MAX));
        frame.render_widget(Paragraph::new(lines).scroll((scroll, 0)), body);
        frame.render_widget(Paragraph::new(self.foot(usize::from(scroll), hidden)), foot);
    }

    fn foot(&self, scroll: usize, hidden: usize) -> Line<'static> {
        let alarm = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        let mut spans = vec![Span::raw("q quit  arrows scroll")];
        if hidden > 0 {
            spans.push(Span::raw(format!("  {} more lines below", hidden - scroll)));
        }
        if self.age >= OLD || self.error.is_some() {
            spans.push(Span::styled(format!("  OLD: {} s", self.age.as_secs()), alarm));
        }
        spans.extend(self.error.iter().map(|error| Span::styled(format!("  {error}"), alarm)));
        Line::from(spans)
    }
}

/// The lines of a text: headings are bold, and sections that report something bad are red.
fn styled(text: &str) -> Vec<Line<'static>> {
    let mut is_alarm = false;
    let line = |line: &str| {
        let is_heading = !line.starts_with(' ');
        if is_heading {
            is_alarm = ALARMS.contains(&line);
        }
        let style = if is_heading { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
        Line::styled(line.to_owned(), if is_alarm { style.fg(Color::Red) } else { style })
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    /// The screen of a view, line by line.
    fn screen(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned()).collect()
    }

    fn of(text: &str) -> View {
        View { text: text.to_owned(), ..View::default() }
    }

    fn press(view: &mut View, code: KeyCode, modifiers: KeyModifiers) -> bool {
        view.takes(&Event::Key(KeyEvent::new(code, modifiers)))
    }

    #[test]
    fn the_overview_fits_on_a_screen_of_80_and_of_120_columns() {
        let text = crate::cli::commands::overview_text::example();
        for (width, height) in [(80, 24), (120, 40)] {
            let rows = screen(&of(&text), width, height);
            println!("{}", rows.join("\n"));
            assert_eq!(rows[0], "lockstep  all sites, as b-0 sees them at 2026-11-29 16:38:33 UTC");
            let shown: Vec<&str> = text.lines().skip(1).take(usize::from(height) - 2).collect();
            assert_eq!(rows[1..=shown.len()], shown, "no line is cut");
            assert!(rows[usize::from(height) - 1].starts_with("q quit  arrows scroll"), "{rows:?}");
        }
    }

    #[test]
    fn a_long_text_is_scrolled_to_its_end_and_no_further() {
        let text: String = (0..100).map(|line| format!("  line {line}\n")).collect();
        let mut view = of(&("head\n".to_owned() + &text));
        assert!(screen(&view, 80, 24)[23].ends_with("78 more lines below"));
        (0..50).for_each(|_| assert!(press(&mut view, KeyCode::PageDown, KeyModifiers::NONE)));
        let rows = screen(&view, 80, 24);
        assert_eq!((rows[1].as_str(), rows[22].as_str()), ("  line 78", "  line 99"));
        press(&mut view, KeyCode::Home, KeyModifiers::NONE);
        assert_eq!(screen(&view, 40, 10)[1], "  line 0", "another size of the terminal is followed");
    }

    #[test]
    fn an_answer_that_does_not_come_is_shown_as_old_and_the_last_text_stays() {
        let mut view = of("head\n  a line\n");
        assert!(!screen(&view, 80, 24)[23].contains("OLD"));
        (view.age, view.error) = (Duration::from_secs(7), Some("no answer".to_owned()));
        let rows = screen(&view, 80, 24);
        assert_eq!((rows[1].as_str(), rows[23].as_str()), ("  a line", "q quit  arrows scroll  OLD: 7 s  no answer"));
        assert_eq!(screen(&View::default(), 80, 24)[0], "lockstep  waiting for an answer");
    }

    #[test]
    fn q_escape_and_an_interrupt_end_the_view() {
        let mut view = of("head\n");
        assert!(!press(&mut view, KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(!press(&mut view, KeyCode::Esc, KeyModifiers::NONE));
        assert!(!press(&mut view, KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(press(&mut view, KeyCode::Char('c'), KeyModifiers::NONE) && view.takes(&Event::Resize(9, 9)));
    }

    #[test]
    fn sections_that_report_something_bad_are_red() {
        let lines = styled("sites\n  a\nNOT SAFE\n  b: why\nnodes\n  a-0\n");
        let red: Vec<bool> = lines.iter().map(|line| line.style.fg == Some(Color::Red)).collect();
        assert_eq!(red, [false, false, true, true, false, false]);
    }
}
