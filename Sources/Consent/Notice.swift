import Crypto
import Foundation
import Media

/// The text that a person is shown before they decide, generated from the retention policy: another policy, another text, another hash.
public struct Notice: Hashable, Sendable {
    /// Changes with the wording below; the policy's values are covered by the hash.
    public static let wording = "2026-11-1"

    public var language: String
    public var text: String
    public var version: String
    /// SHA-256 of the UTF-8 text, hexadecimal.
    public var hash: String

    /// `days`: how long this recording is kept.
    public init(language: String, policy: RetentionPolicy, days: Int) {
        self.language = language
        text = language == "de" ? Self.german(policy, days) : Self.english(policy, days)
        version = Self.wording
        hash = SHA256.hash(data: Data(text.utf8)).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    private static func german(_ policy: RetentionPolicy, _ days: Int) -> String {
        """
        Dieses Treffen soll aufgezeichnet werden. Schon die Teilnahme an einer Selbsthilfegruppe kann etwas über Ihre Gesundheit verraten. \
        Deshalb wird von Ihnen nur gespeichert, was Sie ausdrücklich erlauben. Wenn Sie Nein sagen oder nichts tun, nehmen Sie ganz normal teil \
        und kommen in der Aufzeichnung nicht vor.

        Was: Ihr Ton und Ihr Bild, jeweils nur, wenn Sie es ankreuzen.
        Wofür: für das Protokoll und zum Anhören und Ansehen durch diejenigen Teilnehmenden, die selbst eingewilligt haben. Nichts wird veröffentlicht.
        Wie lange: \(days) Tage. Danach werden zuerst die Schlüssel und dann die Dateien gelöscht; darüber gibt es eine Quittung.
        Wo: \(policy.storage), verschlüsselt.
        Wer verantwortlich ist: \(policy.controller).
        Grundlage: Ihre Einwilligung (Art. 6 Abs. 1 Buchst. a und Art. 9 Abs. 2 Buchst. a DSGVO).
        Ihre Rechte: Sie können jederzeit mit einem Klick widerrufen; auf Wunsch wird alles von Ihnen gelöscht und die Aufzeichnung ohne Sie \
        neu erstellt. Sie können Auskunft, Berichtigung, Einschränkung und eine Kopie verlangen und sich beschweren bei: \(policy.supervisoryAuthority).
        Der Nachweis Ihrer Entscheidung wird \(policy.consentProofYears) Jahre aufbewahrt, die Liste der Abrufe \(policy.downloadLogDays) Tage.
        """
    }

    private static func english(_ policy: RetentionPolicy, _ days: Int) -> String {
        """
        This meeting is to be recorded. Taking part in a self-help group can by itself say something about your health. Therefore nothing of \
        you is stored but what you expressly allow. If you say no, or do nothing, you take part as usual and are not in the recording.

        What: your voice and your picture, each only if you tick it.
        What for: for the minutes, and for those participants to hear and see who consented themselves. Nothing is published.
        How long: \(days) days. Then first the keys and then the files are destroyed; there is a receipt for it.
        Where: \(policy.storage), encrypted.
        Who is responsible: \(policy.controller).
        On what ground: your consent (Art. 6(1)(a) and Art. 9(2)(a) GDPR).
        Your rights: you can withdraw at any time with one click; if you wish, everything of you is erased and the recording is made again \
        without you. You can ask for access, rectification, restriction and a copy, and complain to: \(policy.supervisoryAuthority).
        The proof of your decision is kept for \(policy.consentProofYears) years, the list of downloads for \(policy.downloadLogDays) days.
        """
    }
}
