import CSRTP
import RTP
import SRTP

/// The other side of SRTP: protects packets by libsrtp's own named profiles, with a key that the test chose.
public final class SRTPSender {
    public enum Profile: UInt32, CaseIterable, Sendable { case aes128SHA1Tag80 = 1, aes128SHA1Tag32 = 2, aes128GCM = 7, aes256GCM = 8 }
    private var session: srtp_t?

    /// `key` is the master key and the salt; with an `identifier` each packet carries it (MKI).
    public init(_ profile: Profile, key: [UInt8], identifier: [UInt8] = []) {
        precondition(SRTPLibrary.isReady)
        var policy = srtp_policy_t()
        policy.ssrc = srtp_ssrc_t(type: ssrc_any_outbound, value: 0)
        policy.window_size = 1_024
        policy.allow_repeat_tx = 1
        let raw = srtp_profile_t(rawValue: profile.rawValue)
        srtp_crypto_policy_set_from_profile_for_rtp(&policy.rtp, raw)
        srtp_crypto_policy_set_from_profile_for_rtcp(&policy.rtcp, raw)
        var (key, identifier) = (key, identifier)
        usesIdentifier = identifier.isEmpty ? 0 : 1
        key.withUnsafeMutableBufferPointer { key in
            identifier.withUnsafeMutableBufferPointer { identifier in
                var master = srtp_master_key_t(key: key.baseAddress, mki_id: identifier.baseAddress, mki_size: UInt32(identifier.count))
                withUnsafeMutablePointer(to: &master) { pointer in
                    var list: UnsafeMutablePointer<srtp_master_key_t>? = pointer
                    withUnsafeMutablePointer(to: &list) {
                        if identifier.isEmpty { policy.key = key.baseAddress } else { (policy.keys, policy.num_master_keys) = ($0, 1) }
                        precondition(srtp_create(&session, &policy) == srtp_err_status_ok)
                    }
                }
            }
        }
    }

    private let usesIdentifier: UInt32

    deinit { srtp_dealloc(session) }

    public func protect(_ packet: [UInt8], isControl: Bool = false) -> [UInt8] {
        var bytes = packet + [UInt8](repeating: 0, count: 160)
        var length = Int32(packet.count)
        let status = isControl ? srtp_protect_rtcp_mki(session, &bytes, &length, usesIdentifier, 0) : srtp_protect_mki(session, &bytes, &length, usesIdentifier, 0)
        precondition(status == srtp_err_status_ok)
        return Array(bytes.prefix(Int(length)))
    }

    /// Goes on with another rollover counter, as a sender has that began long ago.
    public func setRolloverCounter(_ counter: UInt32, ssrc: UInt32) { precondition(srtp_set_stream_roc(session, ssrc, counter) == srtp_err_status_ok) }
}

extension SRTPKey {
    /// The key of an `a=crypto` value.
    public init(crypto: String) throws {
        var media = try SessionDescription(parsing: "v=0\nm=audio 5004 RTP/SAVP 0\na=crypto:\(crypto)\n").media[0]
        try self.init(taking: &media.cryptos[0])
    }
}
