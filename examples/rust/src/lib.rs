//! Writes numbers.

/// The digits of a number.
pub fn digits(n: u64) -> String {
    itoa::Buffer::new().format(n).to_owned()
}
