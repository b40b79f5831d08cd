//! The pools' side of the world: the work of the tasks of [`crate::upstream`], line by line.

use super::*;

impl World {
    pub(super) fn proxy_connects(&mut self) {
        let target = self.any_target();
        let have = self.carriers.values().filter(|carrier| carrier.target == target).count();
        if !self.pools[target].alive || have >= self.wanted[target] {
            return;
        }
        let id = self.placement.next_connection_id();
        let (upstream, queues) = Upstream::new(id, target);
        let config = ClientConfig {
            user_agent: "tieline".into(),
            worker: "acme".into(),
            password: "x".into(),
            mask: Some(VersionMask::BIP320),
            suggest: None,
        };
        let patience = PoolPatience {
            handshake: Duration::from_secs(20),
            suspect: Duration::from_secs(5),
            answer: Duration::from_secs(20),
            quiet: Duration::from_secs(120),
            job_every: Duration::from_millis(200),
        };
        let mut session = PoolSession::new(id, config, patience, Difficulty::ONE, self.now);
        let mut bytes = Vec::new();
        session.start(&mut bytes);
        let mut carrier = Carrier {
            target,
            upstream,
            queues,
            session,
            mask: None,
            lines: VecDeque::new(),
            read: 0,
        };
        carrier.write(&bytes);
        self.pools[target].connect(id.0);
        self.carriers.insert(id.0, carrier);
    }

    pub(super) fn proxy_reads_pool(&mut self, id: u64) {
        let Some(carrier) = self.carriers.get_mut(&id) else { return };
        let Some(connection) = self.pools[carrier.target].connections.get_mut(&id) else { return };
        let Some(line) = connection.lines.pop_front() else { return };
        carrier.read += 1;
        let target = carrier.target;
        note(&mut self.wire, || format!("pool {target:?} connection {id} > {line}"));
        let (mut bytes, mut events, mut settled) = (Vec::new(), Vec::new(), Vec::new());
        carrier.session.line(line.as_bytes(), self.now, &mut bytes, &mut events, &mut settled);
        carrier.write(&bytes);
        self.settled(settled);
        self.pool_events(id, events);
    }

    /// Reacts to the events of a pool's line as the task of an upstream connection does.
    pub(super) fn pool_events(&mut self, id: u64, events: Vec<PoolEvent>) {
        for event in events {
            let Some(carrier) = self.carriers.get_mut(&id) else { return };
            let upstream = carrier.upstream.clone();
            let fits = match event {
                PoolEvent::Subscribed { extranonce1, extranonce2_size } => {
                    self.placement.adds_space(&upstream, &extranonce1, extranonce2_size)
                        && self
                            .placement
                            .connection_up(&upstream, &extranonce1, extranonce2_size)
                            .is_ok()
                }
                PoolEvent::Extranonce { extranonce1, extranonce2_size } => {
                    self.placement.adds_space(&upstream, &extranonce1, extranonce2_size)
                        && self
                            .placement
                            .extranonce(&upstream, &extranonce1, extranonce2_size)
                            .is_ok()
                }
                PoolEvent::Job { job, difficulty, mask } => {
                    carrier.mask = mask;
                    upstream.set_quiet(false);
                    self.placement.job(upstream.id, job, difficulty, mask, self.now);
                    carrier.session.note_name(self.placement.current(upstream.id));
                    true
                }
                PoolEvent::Authorized | PoolEvent::Alarm { .. } | PoolEvent::Ignored(_) => true,
                PoolEvent::Dead { end: End::Silent | End::HandshakeTimeout, .. } => false,
                PoolEvent::Dead { end, detail } => {
                    self.faults.push(format!("connection {id} is given up: {end:?}: {detail}"));
                    false
                }
                PoolEvent::Reconnect(_) | PoolEvent::Quarantine { .. } => false,
            };
            if !fits {
                return self.carrier_ends(id);
            }
        }
    }

    pub(super) fn carrier_forwards(&mut self, id: u64) {
        let Some(carrier) = self.carriers.get_mut(&id) else { return };
        let (mut bytes, mut settled) = (Vec::new(), Vec::new());
        while let Ok(share) =
            carrier.queues.urgent.try_recv().or_else(|_| carrier.queues.submits.try_recv())
        {
            carrier.session.share(share, self.now, &mut bytes, &mut settled);
        }
        carrier.write(&bytes);
        self.settled(settled);
    }

    pub(super) fn pool_reads(&mut self, id: u64) {
        let Some(carrier) = self.carriers.get_mut(&id) else { return };
        if let Some((line, read)) = carrier.lines.pop_front() {
            let target = carrier.target;
            note(&mut self.wire, || format!("pool {target:?} connection {id} < {line}"));
            self.pools[carrier.target].line(id, &line, read);
        }
    }

    pub(super) fn carrier_ends(&mut self, id: u64) {
        let Some(mut carrier) = self.carriers.remove(&id) else { return };
        carrier.upstream.set_dead();
        self.placement.connection_down(carrier.upstream.id);
        self.pools[carrier.target].disconnect(id);
        let mut settled = Vec::new();
        carrier.session.end(self.now, &mut settled);
        while let Ok(share) =
            carrier.queues.urgent.try_recv().or_else(|_| carrier.queues.submits.try_recv())
        {
            settled.push(undelivered(share));
        }
        self.settled(settled);
    }

    pub(super) fn settled(&mut self, settled: Vec<Settled>) {
        for end in settled {
            *self.settled.entry(end.outcome).or_default() += 1;
            if end.outcome == SettledAs::Rejected
                && end.refusal.is_none_or(|(code, _)| code != RejectCode::JobNotFound)
            {
                self.faults.push("a pool refused a share".into());
            }
        }
    }

    pub(super) fn refresh(&mut self) {
        if let Some((id, _)) = self.any_carrier() {
            self.placement.refresh(self.carriers[&id].upstream.id);
        }
    }

    pub(super) fn tick(&mut self) {
        for id in self.carriers.keys().copied().collect::<Vec<u64>>() {
            let Some(carrier) = self.carriers.get_mut(&id) else { continue };
            let (mut events, mut settled) = (Vec::new(), Vec::new());
            carrier.session.tick(self.now, &mut events, &mut settled);
            carrier.upstream.set_suspect(carrier.session.is_suspect(self.now));
            self.settled(settled);
            self.pool_events(id, events);
        }
        for index in self.sessions() {
            self.session(index, |served, now, _| {
                served.session.handle(Input::Tick, now, &mut served.out);
            });
        }
    }
}

impl Carrier {
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let text = std::str::from_utf8(bytes).expect("ASCII");
        self.lines.extend(text.lines().map(|line| (line.to_owned(), self.read)));
    }
}
