import Foundation

/// The hours of the day in which batches are begun: `22:00-06:00`, in the machine's time zone, over midnight where it ends before it begins.
public struct BatchWindow: Hashable, Sendable, CustomStringConvertible {
    /// Minutes since midnight.
    public var from: Int
    public var to: Int

    /// Nil where the text is no such window; one that ends when it begins is none.
    public init?(_ text: String) {
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { end -> Int? in
            let parts = end.trimmingCharacters(in: .whitespaces).split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 2, parts.allSatisfy({ (1...2).contains($0.count) && $0.allSatisfy(\.isASCII) }), let hour = Int(parts[0]), let minute = Int(parts[1]),
                  (0...24).contains(hour), (0..<60).contains(minute), hour * 60 + minute <= 1_440 else { return nil }
            return hour * 60 + minute
        }
        guard ends.count == 2, let from = ends[0], let to = ends[1], from != to, from < 1_440 else { return nil }
        (self.from, self.to) = (from, to)
    }

    /// Whether a minute of the day lies within it; the last does not.
    public func contains(minute: Int) -> Bool { from < to ? (from..<to).contains(minute) : minute >= from || minute < to }

    public var description: String {
        let text = { (minutes: Int) in String(format: "%02d:%02d", minutes / 60, minutes % 60) }
        return "\(text(from))-\(text(to))"
    }
}
