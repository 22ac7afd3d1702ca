import CCurl
import Foundation

/// The mail server that messages are handed to.
///
/// `smtps://` speaks TLS from the first byte, `smtp://` demands STARTTLS. Only to this machine itself (localhost, 127.0.0.1, ::1) it goes
/// without, unless certificates are given: what does not leave the machine needs none. Certificates are checked, the system's or those given.
public struct SMTPRelay: Hashable, Sendable {
    /// `smtp://HOST[:PORT]` or `smtps://HOST[:PORT]`.
    public let url: String
    public var user: String?
    public var password: String?
    /// A file with certificates to trust instead of the system's.
    public var certificates: String?
    let needsTLS: Bool

    /// Nil where the URL is none of the two forms. Credentials do not belong in it: URLs are shown in process lists and logs.
    public init?(url: String, user: String? = nil, password: String? = nil, certificates: String? = nil) {
        guard let parts = URLComponents(string: url), let scheme = parts.scheme, ["smtp", "smtps"].contains(scheme), let host = parts.host, !host.isEmpty, parts.user == nil,
              parts.password == nil, parts.path.isEmpty || parts.path == "/", parts.query == nil else { return nil }
        (self.url, self.user, self.password, self.certificates) = (url, user, password, certificates)
        needsTLS = scheme == "smtps" || certificates != nil || !["localhost", "127.0.0.1", "::1", "[::1]"].contains(host)
    }

    /// Why a message was not taken. Neither address nor the server's words are in it: those often repeat the address.
    public struct Refusal: Error, Hashable, Sendable, CustomStringConvertible {
        /// The server's last reply code, 0 where there was none.
        public var reply: Int
        /// libcurl's own words for what failed.
        public var what: String
        /// Whether the server refused this recipient for good (RFC 5321 section 4.2.1: 550, 551, 553, 556); everything else is worth another try.
        public var isFinal: Bool
        public var description: String { reply == 0 ? what : "\(what) (reply \(reply))" }
    }

    /// Hands over a message; returns when the server has taken charge of it. Blocks, for at most a minute. Throws ``Refusal``.
    ///
    /// A connection that breaks after the last byte and before the reply leaves open which of the two has it: it is then sent again under the
    /// same Message-ID.
    public func send(_ message: MailMessage) throws(Refusal) {
        guard Self.isReady, let transfer = Transfer() else { throw Refusal(reply: 0, what: "libcurl cannot be started", isFinal: false) }
        try transfer.run(message, over: self)
    }

    static let isReady = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK
    static let connectSecondsMax = 15
    static let secondsMax = 60
}

/// One conversation with a server.
private final class Transfer {
    private let handle: OpaquePointer
    private var recipients: UnsafeMutablePointer<curl_slist>?
    private var rest: ArraySlice<UInt8> = []

    init?() {
        guard let handle = curl_easy_init() else { return nil }
        self.handle = OpaquePointer(handle)
    }

    deinit {
        curl_easy_cleanup(raw)
        curl_slist_free_all(recipients)
    }

    private var raw: UnsafeMutableRawPointer { UnsafeMutableRawPointer(handle) }

    func run(_ message: MailMessage, over relay: SMTPRelay) throws(SMTPRelay.Refusal) {
        rest = message.bytes[...]
        recipients = curl_slist_append(nil, "<\(message.to.rawValue)>")
        let texts: [(CURLoption, String?)] = [
            (CURLOPT_URL, relay.url), (CURLOPT_PROTOCOLS_STR, "smtp,smtps"), (CURLOPT_NOPROXY, "*"), (CURLOPT_MAIL_FROM, "<\(message.from.rawValue)>"), (CURLOPT_USERNAME, relay.user),
            (CURLOPT_PASSWORD, relay.password), (CURLOPT_CAINFO, relay.certificates),
        ]
        let numbers: [(CURLoption, Int)] = [
            (CURLOPT_UPLOAD, 1), (CURLOPT_NOSIGNAL, 1), (CURLOPT_CONNECTTIMEOUT, SMTPRelay.connectSecondsMax), (CURLOPT_TIMEOUT, SMTPRelay.secondsMax),
            (CURLOPT_USE_SSL, relay.needsTLS ? Int(CURLUSESSL_ALL.rawValue) : Int(CURLUSESSL_NONE.rawValue)), (CURLOPT_SSL_VERIFYPEER, 1), (CURLOPT_SSL_VERIFYHOST, 2),
        ]
        for (option, value) in texts { if let value { try check(ccurl_set_text(raw, option, value)) } }
        for (option, value) in numbers { try check(ccurl_set_number(raw, option, value)) }
        try check(ccurl_set_list(raw, CURLOPT_MAIL_RCPT, recipients))
        try check(ccurl_set_reader(raw, { target, size, count, state in
            guard let target, let state else { return 0 }
            return Unmanaged<Transfer>.fromOpaque(state).takeUnretainedValue().read(UnsafeMutableRawBufferPointer(start: target, count: size * count))
        }, Unmanaged.passUnretained(self).toOpaque()))
        try check(curl_easy_perform(raw))
    }

    private func read(_ target: UnsafeMutableRawBufferPointer) -> Int {
        let part = rest.prefix(target.count)
        target.copyBytes(from: part)
        rest = rest.dropFirst(part.count)
        return part.count
    }

    private func check(_ code: CURLcode) throws(SMTPRelay.Refusal) {
        guard code != CURLE_OK else { return }
        let reply = ccurl_reply_code(raw)
        throw SMTPRelay.Refusal(reply: reply, what: String(cString: curl_easy_strerror(code)), isFinal: code != CURLE_LOGIN_DENIED && [550, 551, 553, 556].contains(reply))
    }
}
