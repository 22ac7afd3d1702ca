import NIOCore

/// Keeps little in the kernel on its way to a reader: what is there already cannot be taken back when somebody withdraws.
///
/// The kernel would let the buffer grow to megabytes. This much still fills 20 Mbit/s at a round trip of 50 ms.
final class SendBuffer: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny
    static let bytes = 128 << 10

    func handlerAdded(context: ChannelHandlerContext) {
        // Where it cannot be set, as on a channel that is no socket, the system's own size stays.
        context.channel.setOption(ChannelOptions.socketOption(.so_sndbuf), value: SocketOptionValue(Self.bytes)).whenFailure { _ in }
    }
}
