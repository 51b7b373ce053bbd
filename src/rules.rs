//! The protocol's rules by name.
//!
//! Every rule that keeps a promise of the sync protocol has a name here and stands in the code as
//! `rules.has(Rule::X)`. In production all are in force; the simulation takes one out at a time and
//! shows schedules that then fail, so that no rule is there without need and none without a test.
//! (Of the model's rules for several appliers in one direction, `order` is kept by the registry; two take turns with neighbouring runs and the next one is
//! given up where the first fails, so that `exact` and `yield` have nothing to do. The condition on the before image, and the token, are kept by the
//! connectors' sessions.)

/// One rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A transaction that carries our own tag is an echo and is not applied.
    Echo,
    /// The checkpoint moves in the transaction that holds the rows.
    Checkpoint,
    /// What is read of a transaction before its decision is dropped where it is rolled back.
    Undo,
    /// A change that a resolution covers is skipped, before its before image is looked at.
    Skip,
    /// What was planned ahead of its turn is planned again where what it was planned on has changed since.
    Ahead,
    /// A run that is written beside the one before it is committed after it.
    Turn,
    /// A delete compares every column, additive ones too: it would take along what the other side added meanwhile.
    Delete,
    /// A rendezvous waits till both logs are read up to its fences.
    Fence,
    /// A rendezvous decides on the rows as they were at the fence, and starts again if they moved.
    Reread,
    /// Writes before the bridge's own last write of a key were seen, and no longer contend.
    Seen,
    /// Half-done keys are completed before anything else touches them.
    Complete,
    /// A resolution is forgotten on A, then on B, when both have passed its fences.
    Prune,
    /// A rendezvous waits until no applier has its keys in hand, and holds them against appliers.
    Registry,
    /// Every wait of a rendezvous ends: all is let go and taken again.
    Timeout,
    /// What is refused is stored in the transaction that moves the checkpoint past it.
    Quarantine,
    /// While a key is in quarantine, its changes from both sides are stored and not applied.
    Hold,
    /// A rendezvous counts what is stored as pending.
    Stored,
    /// What is stored of a key is removed in the transactions that write its verdict and record.
    Release,
    /// An operator decides about what they have looked at: a key that was written since is tried instead.
    Looked,
    /// Of rows that a constraint ties to each other it is decided together which stand.
    Tied,
    /// Whoever has written looks for references that are broken by it, before the commit.
    References,
    /// What an operator asked of a row's key is answered in the transaction that does it.
    Answer,
    /// Of a table that was added later, what a log holds from before that is skipped.
    Since,
    /// When a table that was set aside is taken back, what is applied of the others is skipped.
    Aside,
    /// Of a server that was promoted: the other side relies on nothing of its log behind the place where that was.
    Fork,
    /// And it has settled nothing behind it.
    ForkFence,
    /// And whatever either side has on record of a settlement, the other has as well, or it is half done.
    ForkRecord,
    /// A new process waits for the transactions of the old one before it reads any state.
    TakeOver,
    /// Where an operator has paused what is applied, nothing is until they take it back.
    Pause,
    /// A copy leaves out rows that the source's log has touched since they were begun to be read.
    Window,
    /// A copy leaves out rows whose keys the target has written itself.
    Meanwhile,
    /// A copy leaves out rows whose keys have been settled: the settlement may cover what the log has yet to bring.
    Covered,
    /// While a table is being copied, keys that the target has written itself are settled before a run writes them.
    Apart,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Rule; 33] = [
        Rule::Echo,
        Rule::Checkpoint,
        Rule::Undo,
        Rule::Skip,
        Rule::Ahead,
        Rule::Turn,
        Rule::Delete,
        Rule::Fence,
        Rule::Reread,
        Rule::Seen,
        Rule::Complete,
        Rule::Prune,
        Rule::Registry,
        Rule::Timeout,
        Rule::Quarantine,
        Rule::Hold,
        Rule::Stored,
        Rule::Release,
        Rule::Looked,
        Rule::Tied,
        Rule::References,
        Rule::Answer,
        Rule::Since,
        Rule::Aside,
        Rule::Fork,
        Rule::ForkFence,
        Rule::ForkRecord,
        Rule::TakeOver,
        Rule::Pause,
        Rule::Window,
        Rule::Meanwhile,
        Rule::Covered,
        Rule::Apart,
    ];
}

/// The rules in force: all, but in a simulation that shows what one is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    without: Option<Rule>,
}

impl Rules {
    /// All of them.
    pub const ALL: Rules = Rules { without: None };

    /// All but one, for the simulation.
    pub const fn without(rule: Rule) -> Rules {
        Rules { without: Some(rule) }
    }

    /// Whether a rule is in force.
    pub fn has(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}
