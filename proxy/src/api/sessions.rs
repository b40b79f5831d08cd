//! `/v1/sessions`: miners' connections.

use std::sync::Arc;

use daemon::admin::ApiError;
use serde::Deserialize;

use super::listing::{Id, Key, Listing, Place, Window};
use crate::handle::{ConfiguredNames, SessionHandle, SessionState, SessionView, Shown};
use crate::sessions::Sessions;
use crate::target::TargetId;

/// The query parameters.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    offset: Option<usize>,
    limit: Option<usize>,
    cursor: Option<String>,
    sort: Option<String>,
    /// Only sessions whose worker name begins with this.
    worker_name: Option<String>,
    /// Only sessions whose user agent begins with this.
    user_agent: Option<String>,
    /// Only sessions in this state.
    state: Option<String>,
    /// Only sessions that work for this target.
    target: Option<String>,
    /// Only sessions of this listener.
    server: Option<String>,
}

/// The keys that sessions can be sorted by.
const KEYS: [&str; 8] = [
    "session",
    "worker_name",
    "connected_at",
    "difficulty",
    "hashrate",
    "shares",
    "rejects",
    "last_share_at",
];

/// The filters, with names replaced by indices.
struct Filters<'q> {
    worker_name: Option<&'q str>,
    user_agent: Option<&'q str>,
    state: Option<SessionState>,
    target: Option<TargetId>,
    server: Option<u16>,
}

impl<'q> Filters<'q> {
    fn read(query: &'q Query, names: &ConfiguredNames) -> Result<Self, ApiError> {
        let state = match query.state.as_deref() {
            None => None,
            Some(name) => match SessionState::ALL.into_iter().find(|state| state.name() == name) {
                Some(state) => Some(state),
                None => {
                    return Err(
                        ApiError::bad_request("bad_query", "no state of sessions").field("state")
                    );
                }
            },
        };
        Ok(Self {
            worker_name: query.worker_name.as_deref(),
            user_agent: query.user_agent.as_deref(),
            state,
            target: look_up(query.target.as_deref(), "target", |wanted| {
                names.targets.find(|name| name == wanted)
            })?,
            server: look_up(query.server.as_deref(), "server", |wanted| {
                let found = names.servers.iter().position(|name| name == wanted)?;
                u16::try_from(found).ok()
            })?,
        })
    }

    fn take(&self, session: &SessionHandle, shown: &Shown) -> bool {
        let begins = |text: Option<&str>, with: Option<&str>| {
            with.is_none_or(|with| text.unwrap_or("").starts_with(with))
        };
        begins(shown.worker.as_ref().map(directive::MachineId::as_str), self.worker_name)
            && begins(shown.user_agent.as_deref(), self.user_agent)
            && self.state.is_none_or(|state| shown.state == state)
            && self.target.is_none_or(|target| shown.target == Some(target))
            && self.server.is_none_or(|server| session.server == server)
    }
}

/// Finds what a name in the query stands for. `field` is the parameter, for the error.
fn look_up<T>(
    wanted: Option<&str>,
    field: &str,
    find: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, ApiError> {
    let Some(wanted) = wanted else { return Ok(None) };
    match find(wanted) {
        Some(found) => Ok(Some(found)),
        None => {
            Err(ApiError::bad_request("bad_query", "no such name in the configuration")
                .field(field))
        }
    }
}

pub(super) fn list(
    sessions: &Sessions,
    names: &ConfiguredNames,
    query: &Query,
) -> Result<Listing<SessionView>, ApiError> {
    let Query { offset, limit, cursor, sort, .. } = query;
    let (key, window) = Window::read(sort.as_deref(), &KEYS, *offset, *limit, cursor.as_deref())?;
    let filters = Filters::read(query, names)?;
    let entries = sessions
        .handles()
        .into_iter()
        .filter_map(|session| {
            let place = {
                let shown = session.shown.lock();
                filters
                    .take(&session, &shown)
                    .then(|| Place(key_of(key, &session, &shown), Id::Session(session.number)))?
            };
            Some((place, session))
        })
        .collect();
    window.cut(entries, |session: Arc<SessionHandle>| session.view(names))
}

#[expect(clippy::cast_precision_loss, reason = "an order among counts, not the counts")]
fn key_of(key: &str, session: &SessionHandle, shown: &Shown) -> Key {
    Key::number(match key {
        "worker_name" => {
            return Key::Text(shown.worker.as_ref().map(ToString::to_string).unwrap_or_default());
        }
        "connected_at" => Some(session.connected_at().as_millisecond() as f64),
        "difficulty" => shown.difficulty(),
        "hashrate" => shown.work_rate.map(f64::from),
        "shares" => Some(f64::from(session.tally.shares())),
        "rejects" => Some(f64::from(session.tally.rejects())),
        "last_share_at" => session.last_share_at().map(|at| at.as_millisecond() as f64),
        _ => Some(session.number as f64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::tests::handle;

    fn names() -> ConfiguredNames {
        ConfiguredNames {
            targets: vec!["a".into(), "b".into()].into(),
            servers: vec!["asics".into()],
        }
    }

    fn numbers(sessions: &Sessions, query: Query) -> Vec<u64> {
        list(sessions, &names(), &query)
            .expect("a page")
            .items
            .iter()
            .map(|view| view.session)
            .collect()
    }

    #[test]
    fn sessions_are_filtered_and_sorted_by_what_they_show() {
        let sessions = Arc::new(Sessions::default());
        let entries: Vec<_> = (1..=4).map(|number| sessions.enter(handle(number))).collect();
        for (index, entry) in entries.iter().enumerate().skip(1) {
            let mut shown = entry.handle.shown.lock();
            shown.worker = Some(format!("acme.rig-{}", 9 - index).as_str().into());
            shown.user_agent =
                Some(if index == 1 { "cgminer/4".into() } else { "bosminer".into() });
            shown.state = SessionState::Working;
            shown.target = u16::try_from(index % 2).ok().map(TargetId::nth);
            (0..index).for_each(|_| {
                entry.handle.tally.share(entry.handle.connected_at(), entry.handle.connected_at());
            });
        }
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            numbers(&sessions, Query { sort: some("-shares"), ..Query::default() }),
            [4, 3, 2, 1]
        );
        assert_eq!(
            numbers(&sessions, Query { sort: some("worker_name"), ..Query::default() }),
            [1, 4, 3, 2]
        );
        assert_eq!(numbers(&sessions, Query { state: some("handshake"), ..Query::default() }), [1]);
        assert_eq!(numbers(&sessions, Query { target: some("b"), ..Query::default() }), [2, 4]);
        assert_eq!(
            numbers(
                &sessions,
                Query { user_agent: some("bos"), server: some("asics"), ..Query::default() }
            ),
            [3, 4]
        );
        assert_eq!(
            numbers(&sessions, Query { worker_name: some("acme.rig-8"), ..Query::default() }),
            [2]
        );
        for query in [
            Query { target: some("c"), ..Query::default() },
            Query { state: some("asleep"), ..Query::default() },
            Query { server: some("x"), ..Query::default() },
            Query { sort: some("slot"), ..Query::default() },
        ] {
            assert_eq!(list(&sessions, &names(), &query).expect_err("nonsense").code, "bad_query");
        }
        let view = &list(&sessions, &names(), &Query::default()).expect("a page").items[1];
        assert_eq!(
            (view.server.as_str(), view.shares, view.last_share_at),
            ("asics", 1, Some(view.connected_at))
        );
    }
}
