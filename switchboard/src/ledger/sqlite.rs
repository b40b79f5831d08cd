//! The ledger in one SQLite file, which operators can read with `sqlite3`. It uses a write-ahead
//! log and syncs every commit; a lock file next to it allows one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use daemon::private;
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::{Entry, Event, Head, LedgerError, LedgerState, LedgerStore, Tampered};

/// The schema this program writes and reads (`user_version`). 2 has the events `unconfirmed` and
/// `confirmed`, which a program that knows only schema 1 would take for tampering. 3 records how a
/// decision changes the selection, which a program that knows only schema 2 would overlook, and has
/// the events `sleepers`, `adopted` and `meters_judged`. 4 has leases that are made ready only when the one that they
/// follow ends, which a program that knows only schema 3 would overlook, and the event
/// `lease_amended`. 5 has the cause of each period in a decision, where a program that knows only
/// schema 4 looks for a lease, and the event `permitted`. 6 has the event `supply_changed`, which a
/// program that knows only schema 5 would take for tampering.
const SCHEMA: i64 = 6;

const CREATE: &str = "
    BEGIN;
    CREATE TABLE event (
        seq  INTEGER PRIMARY KEY,
        at   TEXT NOT NULL,
        kind TEXT NOT NULL,
        body TEXT NOT NULL,
        prev BLOB NOT NULL,
        hash BLOB NOT NULL
    ) STRICT;
    PRAGMA user_version = 6;
    COMMIT;
";

/// A ledger in a SQLite file, held by this process.
#[derive(Debug)]
pub struct SqliteLedger {
    connection: Connection,
    head: Head,
    _lock: File,
}

impl SqliteLedger {
    /// Opens the ledger, or creates it: locks it, checks every entry, folds them into the state,
    /// and begins a new epoch. Everything sent from now on carries that epoch, so that messages of
    /// an earlier holder are older.
    ///
    /// # Errors
    /// [`LedgerError`] when another process holds it, a later version wrote it, an entry was
    /// tampered with, or the file cannot be used.
    pub fn open(path: &Path, now: Timestamp) -> Result<(Self, LedgerState), LedgerError> {
        let lock = lock(path)?;
        keep_private(path)?;
        let connection = Connection::open(path).map_err(|error| database(&error))?;
        let found = schema(&connection)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(|error| database(&error))?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(|error| database(&error))?;
        if found == 0 {
            connection.execute_batch(CREATE).map_err(|error| database(&error))?;
        }
        let mut state = LedgerState::default();
        let head = walk(&connection, |at, event| state.apply(at, event))?;
        if (1..SCHEMA).contains(&found) {
            connection
                .pragma_update(None, "user_version", SCHEMA)
                .map_err(|error| database(&error))?;
        }
        let mut ledger = Self { connection, head, _lock: lock };
        let opened = Entry { at: now, event: Event::Opened { epoch: state.epoch + 1 } };
        ledger.append(std::slice::from_ref(&opened))?;
        state
            .apply(opened.at, &opened.event)
            .map_err(|what| Tampered { seq: head.seq + 1, what })?;
        Ok((ledger, state))
    }
}

impl LedgerStore for SqliteLedger {
    fn append(&mut self, entries: &[Entry]) -> Result<Head, LedgerError> {
        let mut head = self.head;
        let transaction = self.connection.transaction().map_err(|error| database(&error))?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO event (seq, at, kind, body, prev, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
                .map_err(|error| database(&error))?;
            for entry in entries {
                let (at, kind) = (entry.at.to_string(), entry.event.kind());
                let body = serde_json::to_string(&entry.event)
                    .map_err(|error| LedgerError::Database(error.to_string()))?;
                let next = head.next(&at, kind, &body);
                let seq = i64::try_from(next.seq)
                    .map_err(|_| LedgerError::Full("2^63 entries".to_owned()))?;
                insert
                    .execute(params![seq, at, kind, body, &head.hash[..], &next.hash[..]])
                    .map_err(|error| database(&error))?;
                head = next;
            }
        }
        transaction.commit().map_err(|error| database(&error))?;
        self.head = head;
        Ok(head)
    }

    fn head(&self) -> Head {
        self.head
    }
}

/// Checks a whole ledger without changing it, and finds entries that were edited, removed,
/// reordered or added. A ledger whose last entries were removed is only found with `known`, a head
/// that was published earlier.
///
/// # Errors
/// [`LedgerError::Tampered`] naming the first entry that is not as it was written.
pub fn verify(path: &Path, known: Option<Head>) -> Result<Head, LedgerError> {
    if !path.is_file() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(LedgerError::File { path: path.to_owned(), source });
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|error| database(&error))?;
    if schema(&connection)? == 0 {
        return Err(LedgerError::Database("is no ledger: it has no schema version".to_owned()));
    }
    let mut state = LedgerState::default();
    let mut passed = known.is_none_or(|known| known == Head::default());
    let mut wrong = None;
    let head = walk_heads(&connection, |at, event, head| {
        if let Some(known) = known.filter(|known| known.seq == head.seq) {
            passed = known.hash == head.hash;
            wrong = (!passed).then_some(head.seq);
        }
        state.apply(at, event)
    })?;
    match (passed, known) {
        (false, Some(known)) => {
            let what = match wrong {
                Some(_) => "its hash is not the published head's: history was rewritten".to_owned(),
                None => format!(
                    "missing: the ledger ends at {}, a head of {} was published",
                    head.seq, known.seq
                ),
            };
            Err(Tampered { seq: wrong.unwrap_or(head.seq + 1), what }.into())
        }
        _ => Ok(head),
    }
}

fn walk(
    connection: &Connection,
    mut fold: impl FnMut(Timestamp, &Event) -> Result<(), String>,
) -> Result<Head, LedgerError> {
    walk_heads(connection, |at, event, _| fold(at, event))
}

/// One row: seq, at, kind, body, prev, hash.
type Row = (i64, String, String, String, Vec<u8>, Vec<u8>);

/// Reads the entries in order, checks each against the one before, and passes them on.
fn walk_heads(
    connection: &Connection,
    mut fold: impl FnMut(Timestamp, &Event, &Head) -> Result<(), String>,
) -> Result<Head, LedgerError> {
    let mut select = connection
        .prepare("SELECT seq, at, kind, body, prev, hash FROM event ORDER BY seq")
        .map_err(|error| database(&error))?;
    let mut rows = select.query([]).map_err(|error| database(&error))?;
    let mut head = Head::default();
    while let Some(row) = rows.next().map_err(|error| database(&error))? {
        let want = head.seq + 1;
        let tampered = |what: String| Tampered { seq: want, what };
        let read = || -> rusqlite::Result<Row> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        };
        let (seq, at, kind, body, prev, hash) =
            read().map_err(|error| tampered(format!("unreadable: {error}")))?;
        if u64::try_from(seq) != Ok(want) {
            return Err(tampered(format!("missing: the next entry is {seq}")).into());
        }
        if prev != head.hash {
            return Err(tampered("it does not follow the entry before it".to_owned()).into());
        }
        let next = head.next(&at, &kind, &body);
        if hash != next.hash {
            return Err(tampered("its content does not match its hash".to_owned()).into());
        }
        let event: Event = serde_json::from_str(&body)
            .map_err(|error| tampered(format!("unreadable: {error}")))?;
        let at: Timestamp = at.parse().map_err(|_| tampered(format!("its time {at:?} is none")))?;
        if event.kind() != kind {
            return Err(tampered(format!("it is called {kind} and is {}", event.kind())).into());
        }
        fold(at, &event, &next).map_err(|what| Tampered { seq: want, what })?;
        head = next;
    }
    Ok(head)
}

fn schema(connection: &Connection) -> Result<i64, LedgerError> {
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| database(&error))?;
    if found > SCHEMA { Err(LedgerError::NewerSchema { found, known: SCHEMA }) } else { Ok(found) }
}

/// Creates the file before SQLite does, which would let everybody read it. Files that SQLite makes
/// next to it get the same mode; those left by an earlier process are restricted here.
fn keep_private(ledger: &Path) -> Result<(), LedgerError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| LedgerError::File { path, source }
    };
    private::create_file(ledger).map_err(failed(ledger))?;
    for suffix in ["-wal", "-shm", "-journal"] {
        let path = beside(ledger, suffix);
        private::tighten(&path).map_err(failed(&path))?;
    }
    Ok(())
}

fn beside(ledger: &Path, suffix: &str) -> PathBuf {
    let mut name = ledger.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn lock(ledger: &Path) -> Result<File, LedgerError> {
    let path = beside(ledger, ".lock");
    let failed = |source| LedgerError::File { path: path.clone(), source };
    // A user who can open the lock file could lock it, and so keep the next process from starting.
    private::create_file(&path).map_err(failed)?;
    let file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Locked { path }),
        Err(TryLockError::Error(source)) => Err(LedgerError::File { path, source }),
    }
}

fn database(error: &rusqlite::Error) -> LedgerError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => LedgerError::Full(error.to_string()),
        _ => LedgerError::Database(error.to_string()),
    }
}
