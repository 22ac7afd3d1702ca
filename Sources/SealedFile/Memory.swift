import Glibc

/// Overwrites memory with zeroes in a way that is not optimised away.
func memset_explicit(_ bytes: UnsafeMutablePointer<UInt8>, _ count: Int) { explicit_bzero(bytes, count) }
