import Crypto
import Foundation
import Media

/// The text that a person is shown before they decide, generated from the retention policy: another policy, another text, another hash.
public struct Notice: Hashable, Sendable {
    /// Changes with the wording below.
    public static let wording = "2026-11-2"

    public var language: String
    public var text: String
    /// The wording and eight digits that change with any value in the text; the same in both languages.
    public var version: String
    /// SHA-256 of the UTF-8 text, hexadecimal.
    public var hash: String

    /// `days`: how long this recording is kept.
    public init(language: String, policy: RetentionPolicy, days: Int) {
        self.language = language
        let (german, english) = (Self.german(policy, days), Self.english(policy, days))
        text = language == "de" ? german : english
        version = Self.wording + "." + Self.digest(german + "\n" + english).prefix(8)
        hash = Self.digest(text)
    }

    private static func digest(_ text: String) -> String {
        SHA256.hash(data: Data(text.utf8)).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    private static func count(_ number: Int, _ one: String, _ many: String) -> String { "\(number) \(number == 1 ? one : many)" }

    private static func german(_ policy: RetentionPolicy, _ days: Int) -> String {
        let controller = policy.controller == RetentionPolicy.unnamedController ? "der Verein, der diesen Server betreibt" : policy.controller
        let storage = policy.storage == RetentionPolicy.unnamedStorage ? "auf diesem Server" : policy.storage
        let authority = policy.supervisoryAuthority == RetentionPolicy.unnamedAuthority ? "der Datenschutzaufsicht Ihres Bundeslandes" : policy.supervisoryAuthority
        return """
        Dieses Treffen soll aufgezeichnet werden. Schon die Teilnahme an einer Selbsthilfegruppe kann etwas über Ihre Gesundheit verraten. \
        Deshalb wird von Ihnen nur gespeichert, was Sie ausdrücklich erlauben. Wenn Sie Nein sagen oder nichts tun, nehmen Sie ganz normal teil \
        und kommen in der Aufzeichnung nicht vor.

        Was: Ihr Ton und Ihr Bild, jeweils nur, wenn Sie es ankreuzen.
        Wofür: für das Protokoll und zum Anhören und Ansehen durch diejenigen Teilnehmenden, die selbst eingewilligt haben. Nichts wird veröffentlicht.
        Wie lange: \(count(days, "Tag", "Tage")). Danach werden zuerst die Schlüssel und dann die Dateien gelöscht; darüber gibt es eine Quittung.
        Wo: \(storage), verschlüsselt.
        Wer verantwortlich ist: \(controller).
        Grundlage: Ihre Einwilligung (Art. 6 Abs. 1 Buchst. a und Art. 9 Abs. 2 Buchst. a DSGVO).
        Ihre Rechte: Sie können jederzeit mit einem Klick widerrufen; auf Wunsch wird alles von Ihnen gelöscht und die Aufzeichnung ohne Sie \
        neu erstellt. Sie können Auskunft, Berichtigung, Einschränkung und eine Kopie verlangen und sich beschweren bei: \(authority).
        Der Nachweis Ihrer Entscheidung wird \(count(policy.consentProofYears, "Jahr", "Jahre")) aufbewahrt, die Liste der Abrufe \
        \(count(policy.downloadLogDays, "Tag", "Tage")). Technische Daten der Verbindung, etwa IP-Adressen, werden nach \
        \(count(policy.technicalDataDays, "Tag", "Tagen")) gelöscht, Sicherungskopien nach \(count(policy.backupDays, "Tag", "Tagen")).
        """
    }

    private static func english(_ policy: RetentionPolicy, _ days: Int) -> String {
        """
        This meeting is to be recorded. Taking part in a self-help group can by itself say something about your health. Therefore nothing of \
        you is stored but what you expressly allow. If you say no, or do nothing, you take part as usual and are not in the recording.

        What: your voice and your picture, each only if you tick it.
        What for: for the minutes, and for those participants to hear and see who consented themselves. Nothing is published.
        How long: \(count(days, "day", "days")). Then first the keys and then the files are destroyed; there is a receipt for it.
        Where: \(policy.storage), encrypted.
        Who is responsible: \(policy.controller).
        On what ground: your consent (Art. 6(1)(a) and Art. 9(2)(a) GDPR).
        Your rights: you can withdraw at any time with one click; if you wish, everything of you is erased and the recording is made again \
        without you. You can ask for access, rectification, restriction and a copy, and complain to: \(policy.supervisoryAuthority).
        The proof of your decision is kept for \(count(policy.consentProofYears, "year", "years")), the list of downloads for \
        \(count(policy.downloadLogDays, "day", "days")). Technical data of the connection, such as IP addresses, are deleted after \
        \(count(policy.technicalDataDays, "day", "days")), backups after \(count(policy.backupDays, "day", "days")).
        """
    }
}
