import Glibc

/// Database files that nobody but their owner reads (mode 0600), whatever the umask and the folder allow.
enum OwnerOnly {
    /// Makes the file with that mode, or gives it to one that exists; SQLite's journal, WAL and index files inherit it.
    ///
    /// An existing file is never opened here: closing a descriptor of it would drop the locks that another connection of this process holds.
    /// What fails is left to SQLite, which says why it cannot open the file.
    static func prepare(_ path: String) {
        let descriptor = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0o600)
        if descriptor >= 0 { close(descriptor) } else { chmod(path, 0o600) }
    }
}
