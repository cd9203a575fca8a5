//! Instance ids, however they are at hand.

use durable_machine::model::{InstanceId, InvalidName};

/// What can be an instance id: a text that is checked, or an id that was.
pub trait IntoInstanceId {
    /// Checks and takes it.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] says which rule of [`InstanceId`] a text breaks.
    fn into_instance_id(self) -> Result<InstanceId, InvalidName>;
}

impl IntoInstanceId for InstanceId {
    fn into_instance_id(self) -> Result<InstanceId, InvalidName> {
        Ok(self)
    }
}

impl IntoInstanceId for &InstanceId {
    fn into_instance_id(self) -> Result<InstanceId, InvalidName> {
        Ok(self.clone())
    }
}

impl IntoInstanceId for &str {
    fn into_instance_id(self) -> Result<InstanceId, InvalidName> {
        InstanceId::new(self)
    }
}

impl IntoInstanceId for String {
    fn into_instance_id(self) -> Result<InstanceId, InvalidName> {
        InstanceId::new(self)
    }
}

impl IntoInstanceId for &String {
    fn into_instance_id(self) -> Result<InstanceId, InvalidName> {
        InstanceId::new(self.as_str())
    }
}
