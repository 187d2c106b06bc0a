//! What the types promise, as properties: encoding, verification, rotation.

#[cfg(test)]
mod encoding;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod verification;
