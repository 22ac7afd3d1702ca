import CSRTP

/// libsrtp2's own set-up: once for the process, and by nobody else, for it bears no second one at the same time.
public enum SRTPLibrary {
    /// Whether the library and its self-tests started.
    public static let isReady = srtp_init() == srtp_err_status_ok

    /// Its name and version.
    public static var version: String { srtp_get_version_string().map { String(cString: $0) } ?? "libsrtp2" }
}
