/// A moment: nanoseconds since 1970-01-01T00:00:00Z, without leap seconds (POSIX time).
///
/// Media time is wall time (DESIGN.md invariant 6), so access units, gate marks and consent events share this type.
public struct WallTime: Hashable, Comparable, Codable, Sendable {
    public var nanoseconds: Int64

    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// `seconds` since 1970; exact to about 0.2 µs for present dates.
    public init(seconds: Double) { nanoseconds = Int64((seconds * 1e9).rounded()) }

    public var seconds: Double { Double(nanoseconds) / 1e9 }

    public static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
    public static func + (a: Self, b: Nanoseconds) -> Self { Self(nanoseconds: a.nanoseconds &+ b.count) }
    public static func - (a: Self, b: Nanoseconds) -> Self { Self(nanoseconds: a.nanoseconds &- b.count) }
    public static func - (a: Self, b: Self) -> Nanoseconds { Nanoseconds(count: a.nanoseconds &- b.nanoseconds) }

    public init(from decoder: any Decoder) throws { nanoseconds = try decoder.singleValueContainer().decode(Int64.self) }
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(nanoseconds)
    }
}

/// A signed length of time in nanoseconds.
public struct Nanoseconds: Hashable, Comparable, Codable, Sendable {
    public var count: Int64

    public init(count: Int64) { self.count = count }
    public init(seconds: Double) { count = Int64((seconds * 1e9).rounded()) }

    public static func seconds(_ value: Int64) -> Self { Self(count: value * 1_000_000_000) }
    public static func milliseconds(_ value: Int64) -> Self { Self(count: value * 1_000_000) }
    public static let zero = Self(count: 0)

    public var seconds: Double { Double(count) / 1e9 }
    public var milliseconds: Double { Double(count) / 1e6 }

    public static func < (a: Self, b: Self) -> Bool { a.count < b.count }
    public static func + (a: Self, b: Self) -> Self { Self(count: a.count &+ b.count) }
    public static func - (a: Self, b: Self) -> Self { Self(count: a.count &- b.count) }
    public static prefix func - (a: Self) -> Self { Self(count: 0 &- a.count) }

    public init(from decoder: any Decoder) throws { count = try decoder.singleValueContainer().decode(Int64.self) }
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(count)
    }
}
