import CSRTP
import RTP

/// One libsrtp session for what comes in under one key. Freed, and its keys with it, in `deinit`.
///
/// Proof of `@unchecked`: it is reached through the mutex of the one ``SRTPReceiver`` that made it, and nowhere else.
final class SRTPContext: @unchecked Sendable {
    /// Reordering up to this many packets is no replay (RFC 3711 section 3.3.2 asks for at least 64).
    static let replayWindowPackets: UInt = 1_024

    private var session: srtp_t?
    private let key: SRTPKey

    init(_ key: SRTPKey) {
        precondition(SRTPLibrary.isReady, "a key was made without the library")
        self.key = key
        let status = withPolicy(ssrc_any_inbound, 0) { srtp_create(&session, $0) }
        // Suite and length were checked with the key: what is left is memory.
        precondition(status == srtp_err_status_ok, "libsrtp cannot make a session (\(status.rawValue))")
    }

    deinit { if let session { srtp_dealloc(session) } }

    /// Removes the protection in place; `length` becomes that of the plain packet.
    func unprotect(_ bytes: UnsafeMutableRawPointer, _ length: inout Int32, isControl: Bool) -> srtp_err_status_t {
        let usesIdentifier: UInt32 = key.identifier.isEmpty ? 0 : 1
        return isControl ? srtp_unprotect_rtcp_mki(session, bytes, &length, usesIdentifier) : srtp_unprotect_mki(session, bytes, &length, usesIdentifier)
    }

    /// Makes a source known before it has authenticated, so that its rollover counter can be set.
    func add(_ ssrc: UInt32) -> Bool { withPolicy(ssrc_specific, ssrc) { srtp_add_stream(session, $0) } == srtp_err_status_ok }

    /// libsrtp compares with the number as it lies in the packet.
    func remove(_ ssrc: UInt32) { srtp_remove_stream(session, ssrc.bigEndian) }

    func rolloverCounter(_ ssrc: UInt32) -> UInt32? {
        var counter: UInt32 = 0
        return srtp_get_stream_roc(session, ssrc, &counter) == srtp_err_status_ok ? counter : nil
    }

    /// Takes effect with the next packet that authenticates under it; 0 takes a set one back.
    func setRolloverCounter(_ counter: UInt32, _ ssrc: UInt32) -> Bool { srtp_set_stream_roc(session, ssrc, counter) == srtp_err_status_ok }

    private func withPolicy(_ type: srtp_ssrc_type_t, _ ssrc: UInt32, _ body: (UnsafePointer<srtp_policy_t>) -> srtp_err_status_t) -> srtp_err_status_t {
        var policy = srtp_policy_t()
        policy.ssrc = srtp_ssrc_t(type: type, value: ssrc)
        policy.window_size = Self.replayWindowPackets
        switch key.suite {
        case .aes128CounterHMAC80:
            srtp_crypto_policy_set_rtp_default(&policy.rtp)
            srtp_crypto_policy_set_rtp_default(&policy.rtcp)
        case .aes128CounterHMAC32:
            srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32(&policy.rtp)
            // The short tag is for RTP only (RFC 4568 section 6.2.2).
            srtp_crypto_policy_set_rtp_default(&policy.rtcp)
        case .aes128GCM:
            srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtp)
            srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtcp)
        case .aes256GCM:
            srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy.rtp)
            srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy.rtcp)
        }
        return key.withBytes { bytes in
            var identifier = key.identifier
            return identifier.withUnsafeMutableBufferPointer { place in
                guard !place.isEmpty else {
                    policy.key = bytes
                    return body(&policy)
                }
                var master = srtp_master_key_t(key: bytes, mki_id: place.baseAddress, mki_size: UInt32(place.count))
                return withUnsafeMutablePointer(to: &master) { pointer in
                    var list: UnsafeMutablePointer<srtp_master_key_t>? = pointer
                    return withUnsafeMutablePointer(to: &list) {
                        policy.keys = $0
                        policy.num_master_keys = 1
                        return body(&policy)
                    }
                }
            }
        }
    }
}
