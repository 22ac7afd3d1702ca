import Foundation
import Glibc
import Mail

/// The mail server as `serve` is set to it.
enum MailSettings {
    static let variable = "MITSCHNITT_SMTP_PASSWORD"
    static let credentialName = "mitschnitt-smtp-password"

    /// Nil where no mail server is set. `text` gives a setting by its key.
    static func read(_ text: (String) -> String?, environment: [String: String]) throws -> (relay: SMTPRelay, from: MailAddress)? {
        guard let url = text("smtp-url") else { return nil }
        guard let from = text("smtp-from").flatMap(MailAddress.init) else {
            throw CommandError(what: text("smtp-from").map { "smtp-from is '\($0)'" } ?? "smtp-url is set and smtp-from is not", hint: "an address, for example aufzeichnung@example.org")
        }
        let user = text("smtp-user")
        let password = try password(file: text("smtp-password-file"), environment)
        guard (user == nil) == (password == nil) else {
            throw CommandError(what: user == nil ? "there is a password for the mail server and no smtp-user" : "there is an smtp-user and no password",
                               hint: "give the password as systemd's credential \(credentialName), in \(variable), or in a file named by smtp-password-file")
        }
        guard let relay = SMTPRelay(url: url, user: user, password: password, certificates: text("smtp-certificates")) else {
            throw CommandError(what: "smtp-url cannot be used", hint: "smtp://HOST[:PORT] or smtps://HOST[:PORT], without a name and a password in it")
        }
        return (relay, from)
    }

    /// From systemd's credential, the environment or a file; the first of them counts. It is taken out of the environment, so that no child inherits it.
    private static func password(file: String?, _ environment: [String: String]) throws -> String? {
        defer { unsetenv(variable) }
        var credential: String?
        if let folder = environment["CREDENTIALS_DIRECTORY"], case let path = "\(folder)/\(credentialName)", access(path, F_OK) == 0 { credential = path }
        if credential == nil, let given = environment[variable] { return given }
        guard let path = credential ?? file else { return nil }
        do {
            return try String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: .newlines)
        } catch {
            throw CommandError(what: "the mail server's password in \(path) cannot be read", hint: "a file with nothing else in it, which the server may read")
        }
    }
}
