//! `lockstep run`: one sidecar, from its configuration to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::digest::DigestWriter;
use super::doctor::NodeDoctor;
use super::failover_gauges::FailoverGauges;
use super::follow_move;
use super::gauges;
use super::guards::Guards;
use super::inspect::TlsAtNode;
use super::last_contact::LastContact;
use super::left_locks::LeftLocks;
use super::local_health::Machine;
use super::production::{self, Embedded, Seams};
use super::{Inspector, Node, Watch, stream_readers, uncommitted};
use crate::base::base_paths::BasePaths;
use crate::base::clock::{Clock, SeededEntropy, SystemClock};
use crate::node::config::Settings;
use crate::node::config::settings::Handover;
use crate::node::silent_drill::VolumeCopies;
use crate::seams::handover::Receiver;
use crate::seams::handover::pod_label::PodLabel;
use crate::seams::handover::program::Program;
use crate::seams::handover::webhook::Webhook;
use crate::seams::tls::Credentials;
use crate::seams::volume::lock::VolumeLock;
use crate::stages::api::access::TokenFile;
use crate::stages::api::health::{BoundHealth, DescribeProjects, DescribeWrites, Health, RenderMetrics};
use crate::stages::api::server::{ApiTasks, BoundApi};
use crate::stages::api::turns::Turns;
use crate::stages::console::{ConsoleStage, ConsoleTools};
use crate::stages::failover::{DrillSchedule, OperatorDesk, SilentSchedule};
use crate::stages::handover::{HandOver, Told};
use crate::stages::ports::{Console, Inspection, Operators};
use crate::telemetry::metrics::{
    DoctorState, FailoverState, Metrics, observe, observe_aws, observe_doctor, observe_failovers,
};
use crate::telemetry::status_board::StatusBoard;
use crate::telemetry::{self, Telemetry};

/// How long a sidecar waits for the volume's lock. Child processes of an earlier sidecar may hold it for a while.
const LOCK_WAIT: Duration = Duration::from_secs(15);
/// How long an orderly stop may take.
const GRACE: Duration = Duration::from_secs(25);

/// The reason why a sidecar did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

impl RunError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A running sidecar: the volume's locks, a node, and its listeners.
pub struct Sidecar {
    /// The node, with all its stages.
    pub node: Node,
    /// The status board, with the latest events of the node.
    pub board: Arc<StatusBoard>,
    /// The address of the listener for operators, if there is one.
    pub operators: Option<SocketAddr>,
    api: ApiTasks,
    shutdown: CancellationToken,
    _locks: Vec<VolumeLock>,
}

impl Sidecar {
    /// Locks the volume, binds the listeners, starts the node and serves its APIs.
    ///
    /// # Errors
    /// Another sidecar holds the volume, a listener cannot be bound, or the node cannot be started.
    pub async fn start(
        settings: &Settings,
        seams: &Seams,
        git: crate::seams::git::Settings,
        telemetry: Option<&Arc<Telemetry>>,
    ) -> Result<Self, RunError> {
        let receivers = receivers(&settings.handover)?;
        let locks = lock(&settings.base_paths).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let board = Arc::new(StatusBoard::new(Arc::clone(&clock)));
        let metrics = telemetry.map_or_else(Metrics::noop, |telemetry| Metrics::new(&telemetry.meter()));
        let watch = Arc::new(Watch::new(Arc::clone(&board), metrics.clone(), clock));
        let tcp = tcp(settings, &SeededEntropy::from_machine())?;
        let bound = BoundApi::bind(&settings.api.socket, tcp).await.map_err(RunError::of)?;
        let api = &settings.api;
        let api = bound.operated(&api.operators_socket, api.operators.clone()).await.map_err(RunError::of)?;
        let (api, tls) = with_tls(api, settings).await?;
        let (shutdown, tcp) = (CancellationToken::new(), api.tcp_address().map(tracing::field::display));
        let operators = api.operators_address();
        let health = telemetry.map(|telemetry| starting(settings, telemetry, &board, &shutdown)).transpose()?;
        tracing::info!(socket = %settings.api.socket.display(), tcp, "the bridge API is listening");
        let credentials = tls.as_ref().map(|tls| &tls.credentials);
        let dependencies = production::dependencies(settings, seams, credentials, git, watch, &metrics);
        let node = Node::start(dependencies.map_err(RunError::of)?).await.map_err(RunError::of)?;
        keep_files(settings, &node, &board, credentials);
        let (guards, left_locks) = watch_repositories(settings, &node);
        let turns = Turns::new(settings.turns.clone(), Arc::new(SystemClock), metrics.turns.clone());
        let contact = Arc::new(LastContact::read(&settings.state).await);
        let handover = start_handovers(&node, receivers)?;
        write_digests(&node, &board, &guards, &contact, &handover);
        if let Some((telemetry, health)) = telemetry.zip(health) {
            observe(&telemetry.meter(), &board, seams.refdb.units());
            observe_aws(&telemetry.meter(), &seams.links);
            let (renderer, stages, latches) =
                (Arc::clone(telemetry), Arc::clone(node.stages()), node.latches().clone());
            let (seen, watched) = (Arc::clone(&guards), credentials.map(Arc::clone));
            let (waiting, left) = (Arc::clone(&turns), Arc::clone(&left_locks));
            let render: RenderMetrics = Arc::new(move || {
                gauges::look(&stages, &seen, &left, &latches, &metrics);
                gauges::certificates(watched.as_deref(), &metrics);
                waiting.look();
                renderer.render().unwrap_or_else(|error| format!("# {error}\n"))
            });
            let (stages, links) = (Arc::clone(node.stages()), Arc::clone(&seams.links));
            let projects: DescribeProjects = Arc::new(move || [links.lines(), super::inspect::lines(&stages)].concat());
            health.serve(node.latches().clone(), render, projects, writes(&node));
        }
        let doctor = start_doctor(settings, &node, credentials, telemetry);
        let machine = Machine::new(settings, credentials.map(Arc::clone), Arc::new(SystemClock));
        let copies = VolumeCopies::new(settings, Arc::clone(&node.stages().deps.store)).map_err(RunError::of)?;
        node.stages().context.tasks.spawn("copies", Arc::clone(&copies).clean());
        let desk = node.desk(Arc::new(machine), Some(copies));
        tend_failovers(settings, &node, &desk, telemetry);
        let inspector = Inspector::new(Arc::clone(node.stages()), node.latches().clone(), Arc::clone(&board), guards)
            .with(tls, handover, contact, turns.clone())
            .seeing(left_locks)
            .reaching(Arc::clone(&seams.links));
        let inspector = Arc::new(inspector);
        let console = console(settings, &node, &desk, &inspector);
        let api = api
            .showing(console)
            .giving(Arc::clone(&node.stages().deps.repositories))
            .refreshing(node.refreshes())
            .guarded(node.handshake())
            .seeding(node.seeding())
            .obeying(desk)
            .locking(node.locking())
            .rebuilding(node.rebuilds())
            .telling(node.peer_refs())
            .sharing(node.shared_records())
            .awaiting(node.arrivals())
            .diagnosing(doctor)
            .forwarding(node.events())
            .taking(settings.api.most_requests)
            .turning(Arc::clone(&turns))
            .waiting(settings.commit.deadline);
        let api = api.spawn(node.transactions(), inspector, &shutdown);
        Ok(Self { node, board, operators, api, shutdown, _locks: locks })
    }

    /// Stops the sidecar in order, within `grace`.
    pub async fn stop(self, grace: Duration) {
        self.node.stop(grace).await;
        self.shutdown.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(2), self.api.finish()).await;
    }
}

/// The loopback address of the bridge API with its tokens, if the configuration has one.
fn tcp(settings: &Settings, entropy: &SeededEntropy) -> Result<Option<(SocketAddr, TokenFile)>, RunError> {
    let Some((address, file)) = &settings.api.tcp else { return Ok(None) };
    Ok(Some((*address, TokenFile::ensure(file.clone(), entropy).map_err(RunError::of)?)))
}

/// Begins to look at the repositories: whether their hooks are in force, and which locks were left behind.
fn watch_repositories(settings: &Settings, node: &Node) -> (Arc<Guards>, Arc<LeftLocks>) {
    let (stages, tasks) = (node.stages(), &node.stages().context.tasks);
    let guards = Guards::new(&settings.base_paths, settings.install_hooks);
    tasks.spawn("guards", Arc::clone(&guards).watch(Arc::clone(stages)));
    let locks = LeftLocks::new(&settings.base_paths);
    tasks.spawn("left-locks", Arc::clone(&locks).watch(Arc::clone(stages)));
    (guards, locks)
}

/// Begins to leave digests of this node in the refdb.
fn write_digests(
    node: &Node,
    board: &Arc<StatusBoard>,
    guards: &Arc<Guards>,
    contact: &Arc<LastContact>,
    handover: &[Told],
) {
    let digests = DigestWriter {
        stages: Arc::clone(node.stages()),
        latches: node.latches().clone(),
        board: Arc::clone(board),
        guards: Arc::clone(guards),
        contact: Arc::clone(contact),
        handover: handover.to_vec(),
    };
    node.stages().context.tasks.spawn("digest", digests.run());
}

/// The console, if the configuration has one. It begins to follow the lags.
fn console(
    settings: &Settings,
    node: &Node,
    desk: &Arc<OperatorDesk>,
    inspector: &Arc<Inspector>,
) -> Option<Arc<dyn Console>> {
    let tools = ConsoleTools {
        operators: Arc::clone(desk) as Arc<dyn Operators>,
        inspection: Arc::clone(inspector) as Arc<dyn Inspection>,
        handshake: node.handshake(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SeededEntropy::from_machine()),
    };
    let console = ConsoleStage::new(settings.console.clone()?, tools);
    node.stages().context.tasks.spawn("console", Arc::clone(&console).watch());
    Some(console)
}

/// Begins drills by themselves, as the configuration says, and measures how failovers and drills stand.
fn tend_failovers(settings: &Settings, node: &Node, desk: &Arc<OperatorDesk>, telemetry: Option<&Arc<Telemetry>>) {
    let tasks = &node.stages().context.tasks;
    if let Some(telemetry) = telemetry {
        let state = Arc::new(Mutex::new(FailoverState::default()));
        observe_failovers(&telemetry.meter(), &state);
        let operators = Arc::clone(desk) as Arc<dyn Operators>;
        tasks.spawn("failover-gauges", FailoverGauges::new(settings, operators, state).run());
    }
    if let Some(every) = settings.drill.every {
        let schedule = DrillSchedule { desk: Arc::clone(desk), every, to: settings.drill.to.clone() };
        tasks.spawn("drills", schedule.run());
    }
    if let Some(every) = settings.drill.silent.every {
        tasks.spawn("silent-drills", SilentSchedule { desk: Arc::clone(desk), every }.run());
    }
}

/// Begins to read the files of certificates again and again, to keep the list of uncommitted updates in a file, and to
/// look which nodes there are.
fn keep_files(settings: &Settings, node: &Node, board: &Arc<StatusBoard>, credentials: Option<&Arc<Credentials>>) {
    let tasks = &node.stages().context.tasks;
    if let Some(credentials) = credentials {
        tasks.spawn("tls", Arc::clone(credentials).watch());
    }
    tasks.spawn("uncommitted", uncommitted::keep(Arc::clone(board), settings.state.clone()));
    let has_choice = settings.eventlog.may_fan_out();
    if has_choice || settings.siblings.is_some() {
        tasks.spawn("stream-readers", stream_readers::tell(Arc::clone(node.stages()), has_choice));
    }
}

/// Makes the doctor of a node, which looks every ten minutes for the metrics.
fn start_doctor(
    settings: &Settings,
    node: &Node,
    credentials: Option<&Arc<Credentials>>,
    telemetry: Option<&Arc<Telemetry>>,
) -> Arc<NodeDoctor> {
    let (stages, handshake) = (Arc::clone(node.stages()), Arc::clone(&node.handshake));
    let doctor = NodeDoctor::new(settings, stages, handshake, credentials.map(Arc::clone));
    if let Some(telemetry) = telemetry {
        let state = Arc::new(Mutex::new(DoctorState::default()));
        observe_doctor(&telemetry.meter(), &state);
        node.stages().context.tasks.spawn("doctor", Arc::clone(&doctor).watch(state));
    }
    doctor
}

/// The receivers of `[handover]`. Call this before the volume's lock is taken: programs must not inherit it.
fn receivers(settings: &Handover) -> Result<Vec<Arc<dyn Receiver>>, RunError> {
    let mut receivers: Vec<Arc<dyn Receiver>> = Vec::new();
    if let Some(path) = &settings.program {
        let lockstep = std::env::current_exe().map_err(RunError::of)?;
        receivers.push(Arc::new(Program::start(&lockstep, path, settings.timeout).map_err(RunError::of)?));
    }
    if let Some(url) = &settings.webhook {
        let webhook = Webhook::new(url, settings.token_file.clone(), settings.timeout).map_err(RunError::of)?;
        receivers.push(Arc::new(webhook));
    }
    if let Some(label) = &settings.pod_label {
        receivers.push(Arc::new(PodLabel::new(label.clone(), settings.timeout).map_err(RunError::of)?));
    }
    Ok(receivers)
}

/// Tells load balancers that ask whether the node takes writes.
fn writes(node: &Node) -> DescribeWrites {
    let front = Arc::clone(node.front());
    Arc::new(move || front.writes())
}

/// Starts to tell the receivers about the role of the site.
fn start_handovers(node: &Node, receivers: Vec<Arc<dyn Receiver>>) -> Result<Vec<Told>, RunError> {
    let stages = node.stages();
    let start = stages.deps.store.facts().map_err(RunError::of)?.starts;
    let told = receivers.into_iter().map(|receiver| {
        let front = Arc::clone(node.front());
        let takes_writes = Arc::new(move || front.takes_writes());
        let stage = HandOver::new(&stages.context, &stages.state, takes_writes, receiver, start);
        let told = stage.told();
        stages.context.tasks.spawn("handover", stage.run());
        told
    });
    Ok(told.collect())
}

/// Reads the certificates of `[tls]`, and binds the listeners for peers and for operators, if the configuration has
/// them.
async fn with_tls(api: BoundApi, settings: &Settings) -> Result<(BoundApi, Option<TlsAtNode>), RunError> {
    let Some(tls) = &settings.tls else { return Ok((api, None)) };
    let credentials = Arc::new(Credentials::load(tls.files.clone()).map_err(RunError::of)?);
    let api = match &settings.operators {
        Some(operators) => {
            let api = api.operated_remotely(operators.clone(), Arc::clone(&credentials)).await.map_err(RunError::of)?;
            let address = api.operators_address().map(tracing::field::display);
            tracing::info!(address, "the listener for operators is listening");
            api
        }
        None => api,
    };
    let Some(listener) = &tls.listener else { return Ok((api, Some(TlsAtNode { credentials, listen: None }))) };
    let api = api.peered(listener.clone(), Arc::clone(&credentials)).await.map_err(RunError::of)?;
    let listen = api.peer_address();
    tracing::info!(address = listen.map(tracing::field::display), "the listener for peers is listening");
    Ok((api, Some(TlsAtNode { credentials, listen })))
}

/// Locks every folder of the volume. If the root is missing, it is created. A missing base path is an error, because it
/// may be a file system that is not mounted.
async fn lock(base_paths: &BasePaths) -> Result<Vec<VolumeLock>, RunError> {
    let root = base_paths.root();
    std::fs::create_dir_all(root).map_err(|error| RunError(format!("root {}: {error}", root.display())))?;
    let base_paths = base_paths.resolve().map_err(RunError::of)?;
    let mut locks = Vec::new();
    for folder in base_paths.all() {
        locks.push(VolumeLock::take(folder, LOCK_WAIT).await.map_err(RunError::of)?);
    }
    Ok(locks)
}

/// Binds the health listener, and answers from now on: alive, and not ready.
fn starting(
    settings: &Settings,
    telemetry: &Arc<Telemetry>,
    board: &Arc<StatusBoard>,
    shutdown: &CancellationToken,
) -> Result<Health, RunError> {
    let (renderer, board) = (Arc::clone(telemetry), Arc::clone(board));
    let metrics = Arc::new(move || renderer.render().unwrap_or_else(|error| format!("# {error}\n")));
    let start = Arc::new(move || match board.start() {
        step if step.is_empty() => "opening the volume".to_owned(),
        step => step,
    });
    let health = Health::starting(start, metrics);
    let address = settings.health_listen;
    let failed =
        |error| RunError(format!("health.listen {address} cannot be bound: {error}; free it, or set another address"));
    let bound = BoundHealth::bind(address).map_err(failed)?;
    let address = bound.address().ok().map(tracing::field::display);
    tracing::info!(address, "the health and metrics endpoint is listening");
    bound.spawn(health.clone(), shutdown.clone()).map_err(RunError::of)?;
    Ok(health)
}

/// Runs a sidecar until SIGTERM, SIGINT or SIGHUP, or until it is fenced. A signal stops it in order; a second signal
/// stops it at once.
///
/// # Errors
/// The sidecar did not start, or it was fenced. The supervisor of the process should restart it.
pub async fn run(settings: Settings) -> Result<(), RunError> {
    let telemetry = Arc::new(Telemetry::build(&telemetry_settings(&settings)).map_err(RunError::of)?);
    telemetry.install().map_err(RunError::of)?;
    let embedded = match &settings.embedded_dir {
        Some(folder) => Some(Embedded::start(folder).await.map_err(RunError::of)?),
        None => None,
    };
    let settings = at_present_place(settings, embedded.as_ref()).await;
    let seams = production::seams(&settings, embedded.as_ref()).await.map_err(RunError::of)?;
    let git = super::git_settings(&settings).map_err(RunError::of)?;
    let sidecar = Sidecar::start(&settings, &seams, git, Some(&telemetry)).await?;
    tracing::info!(site = %settings.site, node = %settings.node, socket = %settings.api.socket.display(), "started");
    let end = tokio::select! {
        biased;
        () = stop_signal() => Ok(()),
        () = sidecar.node.fenced() => Err(RunError("this node was fenced, or its volume failed: restart it".into())),
    };
    tracing::info!("draining");
    let grace = if end.is_ok() { GRACE } else { Duration::ZERO };
    tokio::select! {
        biased;
        () = sidecar.stop(grace) => {}
        () = stop_signal() => tracing::warn!("stopped at once by a second signal; the journal has every commit"),
    }
    end
}

/// The settings with the place to which the refdb has moved, if it has.
async fn at_present_place(settings: Settings, embedded: Option<&Embedded>) -> Settings {
    let tables = production::tables(&settings, embedded).await;
    match follow_move::present_place(&tables).await {
        None => settings,
        Some(place) => Settings { refdb: follow_move::settings_at(settings.refdb.clone(), place), ..settings },
    }
}

/// Waits for a signal that asks this process to end: from an orchestrator, from Ctrl-C, or because the terminal was
/// closed. A signal that comes after this call and before the first wait is not missed.
pub fn stop_signal() -> impl Future<Output = ()> {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    async move {
        let [Ok(mut term), Ok(mut int), Ok(mut hup)] = kinds else {
            return std::future::pending().await;
        };
        tokio::select! {
            biased;
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = hup.recv() => {}
        }
    }
}

/// Translates a configuration into the settings of logs, metrics and traces.
#[must_use]
pub fn telemetry_settings(settings: &Settings) -> telemetry::Settings {
    telemetry::Settings {
        site: settings.site.clone(),
        node: settings.node.clone(),
        log_format: match settings.telemetry.log_format {
            crate::node::config::settings::LogFormat::Text => telemetry::LogFormat::Text,
            crate::node::config::settings::LogFormat::Json => telemetry::LogFormat::Json,
        },
        log_filter: settings.telemetry.log_filter.clone(),
        otlp_endpoint: settings.telemetry.otlp_endpoint.clone(),
    }
}
