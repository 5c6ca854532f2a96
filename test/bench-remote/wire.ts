/** What crosses the wire: a TCP relay that counts bytes each way. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class Wire implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Bytes towards the server, and back. */
  sent = 0;
  received = 0;

  private constructor(server: Server) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
  }

  /** Relays to `port` of this machine. */
  static async to(port: number): Promise<Wire> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const wire = new Wire(server);
    server.on('connection', (near) => wire.#relay(near, connect(port, '127.0.0.1')));
    return wire;
  }

  /** Bytes both ways since the last call. */
  take(): number {
    const total = this.sent + this.received;
    this.sent = 0;
    this.received = 0;
    return total;
  }

  #relay(near: Socket, far: Socket): void {
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('close', () => this.#sockets.delete(socket));
    }
    near.on('data', (bytes) => {
      this.sent += bytes.length;
    });
    far.on('data', (bytes) => {
      this.received += bytes.length;
    });
    near.pipe(far);
    far.pipe(near);
    near.on('error', () => far.destroy());
    far.on('error', () => near.destroy());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
