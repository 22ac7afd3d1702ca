/// What a stream carries, as its owner announced it.
public enum MediaKind: String, Hashable, Codable, Sendable, CaseIterable {
    case audio, video, screen

    /// The consent that a stream of this kind needs (CONSENT.md section 1).
    public var modality: Modality {
        switch self {
        case .audio: .audio
        case .video: .video
        case .screen: .screen
        }
    }
}

/// What a person can consent to.
public enum Modality: String, Hashable, Codable, Sendable, CaseIterable, CodingKeyRepresentable {
    case audio, video, screen, chat
}

/// What a consented modality may be used for. Publication is never asked at join.
public enum Purpose: String, Hashable, Codable, Sendable, CaseIterable, CodingKeyRepresentable {
    case minutes
    case shareWithParticipants = "share-with-participants"
    case publication
}
