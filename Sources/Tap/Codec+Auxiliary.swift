import Media

extension Codec {
    /// Accompanies other codecs and is no medium of its own: retransmission (RFC 4588), redundancy (RFC 2198), parity (RFC 5109, RFC 8627),
    /// comfort noise (RFC 3389), keys of a telephone (RFC 4733).
    public var isAuxiliary: Bool { ["rtx", "red", "ulpfec", "flexfec", "flexfec-03", "cn", "telephone-event"].contains(name) }

    /// Packets of another source, sent again or as parity: their sequence numbers are not the medium's.
    var isRepair: Bool { ["rtx", "ulpfec", "flexfec", "flexfec-03"].contains(name) }
}
