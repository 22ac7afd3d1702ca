import Foundation
import Glibc

/// Debian's Python, for tests that want a second opinion.
public enum Python {
    /// Runs a program to its end; what it prints.
    public static func run(_ program: String, _ arguments: [String]) throws -> String {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/python3")
        process.arguments = ["-c", program] + arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw CocoaError(.executableLoad) }
        return String(decoding: output, as: UTF8.self)
    }
}

/// A real SMTP server (aiosmtpd) on a free port of this machine: keeps what it takes as files, and refuses `unknown@…` (550) and `busy@…` (451).
///
/// Proof of `@unchecked`: everything is set in `init`; `Process` is only asked to terminate.
public final class MailServer: @unchecked Sendable {
    public struct Message: Decodable, Hashable, Sendable {
        public var from: String
        public var to: [String]
        public var id: String
        public var subject: String
        public var text: String
    }

    public let url: String
    /// Of a secured server: its own certificate, for `localhost`.
    public let certificate: String?
    private let folder: TemporaryFolder
    private let process = Process()

    /// `isSecured`: demands STARTTLS and the user `u` with the password `p`.
    public init(isSecured: Bool = false) throws {
        folder = try TemporaryFolder()
        certificate = isSecured ? folder.path + "/cert.pem" : nil
        if isSecured {
            let openssl = Process()
            openssl.executableURL = URL(filePath: "/usr/bin/openssl")
            openssl.arguments = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", folder.path + "/key.pem",
                                 "-out", folder.path + "/cert.pem"]
            openssl.standardError = FileHandle.nullDevice
            try openssl.run()
            openssl.waitUntilExit()
        }
        process.executableURL = URL(filePath: "/usr/bin/python3")
        process.arguments = ["-c", Self.program, folder.path, isSecured ? "secured" : "plain"]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        var line = ""
        while !line.hasSuffix("\n"), let byte = try pipe.fileHandleForReading.read(upToCount: 1), !byte.isEmpty { line += String(decoding: byte, as: UTF8.self) }
        url = "smtp://localhost:\(line.trimmingCharacters(in: .whitespacesAndNewlines))"
    }

    deinit { stop() }

    public func stop() {
        guard process.isRunning else { return }
        // It inherited the mask of whatever thread started it: only this signal is sure to reach it.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    /// What it took, in order.
    public func messages() throws -> [Message] {
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".json") }.sorted()
        return try names.map { try JSONDecoder().decode(Message.self, from: Data(contentsOf: folder.url.appending(path: $0))) }
    }

    private static let program = """
        import email, email.policy, json, os, signal, socket, ssl, sys
        from aiosmtpd.controller import Controller
        from aiosmtpd.smtp import AuthResult, SMTP
        folder, isSecured = sys.argv[1], sys.argv[2] == 'secured'
        class Keep:
            count = 0
            async def handle_RCPT(self, server, session, envelope, address, options):
                if address.startswith('unknown@'): return '550 5.1.1 no such mailbox ' + address
                if address.startswith('busy@'): return '451 4.3.0 later, ' + address
                envelope.rcpt_tos.append(address)
                return '250 OK'
            async def handle_DATA(self, server, session, envelope):
                m = email.message_from_bytes(envelope.content, policy=email.policy.default)
                Keep.count += 1
                name = os.path.join(folder, '%06d.json' % Keep.count)
                with open(name + '.part', 'w') as f:
                    json.dump({'from': envelope.mail_from, 'to': envelope.rcpt_tos, 'id': m['message-id'], 'subject': m['subject'], 'text': m.get_content()}, f)
                os.rename(name + '.part', name)
                return '250 OK'
        def login(server, session, envelope, mechanism, data):
            return AuthResult(success=data.login == b'u' and data.password == b'p')
        options = {}
        if isSecured:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(folder + '/cert.pem', folder + '/key.pem')
            options = dict(tls_context=context, require_starttls=True, authenticator=login, auth_required=True)
        probe = socket.socket(); probe.bind(('127.0.0.1', 0)); port = probe.getsockname()[1]; probe.close()
        controller = Controller(Keep(), hostname='127.0.0.1', port=port, **options)
        controller.start()
        print(port, flush=True)
        signal.pause()
        """
}
