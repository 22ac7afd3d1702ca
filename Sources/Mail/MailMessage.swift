import Foundation

/// A plain text message to one person (RFC 5322, RFC 2045): the same values, the same bytes.
public struct MailMessage: Hashable, Sendable {
    public var from: MailAddress
    public var to: MailAddress
    public var subject: String
    /// Lines end with a line feed.
    public var text: String
    /// Left part of the Message-ID, letters and digits; its right part is the sender's domain. The same message has the same one however often it is sent.
    public var id: String
    /// Seconds since 1970.
    public var date: Double

    public init(from: MailAddress, to: MailAddress, subject: String, text: String, id: String, date: Double) {
        (self.from, self.to, self.subject, self.text, self.id, self.date) = (from, to, subject, text, id, date)
    }

    public var bytes: [UInt8] {
        let headers = [
            "Date: \(Self.date(date))", "From: <\(from.rawValue)>", "To: <\(to.rawValue)>", "Message-ID: <\(id)@\(from.domain)>", "Subject: \(Self.encoded(subject))",
            "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: base64",
            // Nobody's holiday note answers it (RFC 3834).
            "Auto-Submitted: auto-generated",
        ]
        let body = Data(text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\r\n").utf8)
        return Array((headers.joined(separator: "\r\n") + "\r\n\r\n").utf8)
            + Array(body.base64EncodedString(options: [.lineLength76Characters, .endLineWithCarriageReturn, .endLineWithLineFeed]).utf8) + [13, 10]
    }

    /// Encoded words in lines of at most 76 characters, the header's name included (RFC 2047 section 2), none of which cuts a character in two.
    static func encoded(_ subject: String) -> String {
        var words: [[UInt8]] = [[]]
        for character in subject {
            let bytes = Array(String(character).utf8)
            if words[words.count - 1].count + bytes.count > 39 { words.append([]) }
            words[words.count - 1] += bytes
        }
        return words.map { "=?utf-8?B?\(Data($0).base64EncodedString())?=" }.joined(separator: "\r\n ")
    }

    private static func date(_ seconds: Double) -> String {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(identifier: "UTC")
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss '+0000'"
        return formatter.string(from: Date(timeIntervalSince1970: seconds))
    }
}
