//! The orchestrators of this process, and which of them the instances of a partition were seen to need.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Registry;
use crate::model::ExecutionKey;
use crate::replay::{ForeignWake, OrchestratorFn};

/// Names that are remembered of each kind. A bound for memory: code may ask for children of any name.
const NAMES_MAX: usize = 1000;

/// The orchestrators that instances of a partition were seen to be of, since it was opened. They only grow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Those that this process registers.
    pub registered: BTreeSet<Arc<str>>,
    /// Those that it lacks: instances are held, or wait, for their sake.
    pub missing: BTreeSet<Arc<str>>,
}

/// The orchestrators of this process. Notes what it is asked for.
pub(super) struct Orchestrators {
    registry: Arc<dyn Registry>,
    pub(super) needs: Needs,
}

impl Orchestrators {
    pub(super) fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry, needs: Needs::default() }
    }

    /// The code for an instance of the partition.
    pub(super) fn orchestrator(&mut self, name: &Arc<str>) -> Option<OrchestratorFn> {
        let code = self.registry.orchestrator(name);
        let names = match &code {
            Some(_) => &mut self.needs.registered,
            None if planted!(LackNotSaid) => return None,
            None => &mut self.needs.missing,
        };
        if !names.contains(name) && names.len() < NAMES_MAX {
            names.insert(name.clone());
        }
        code
    }

    pub(super) fn foreign_wake(&self, key: &ExecutionKey) -> Option<ForeignWake> {
        self.registry.foreign_wake(key)
    }
}
