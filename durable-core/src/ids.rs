//! Instance ids, however they are at hand.

use durable_machine::model::{InstanceId, InvalidName};

/// What can be an instance id: a text that is checked, or an id that was.
///
/// ```
/// use durable_core::{InstanceId, IntoInstanceId};
///
/// let id = InstanceId::new("order-7")?;
/// assert_eq!("order-7".into_instance_id()?, id);
/// assert_eq!(format!("order-{}", 7).into_instance_id()?, id);
/// assert_eq!((&id).into_instance_id()?, id);
/// assert!("orders/7".into_instance_id().is_err());
/// # Ok::<(), durable_core::InvalidName>(())
/// ```
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
