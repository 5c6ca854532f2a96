/** A serving thread that ends in the middle of a request: the lookup of `die`. */
import { serveInWorker } from '../../../src/mount-helper/fuse/worker.ts';
import { Loopback } from './loopback.ts';

class Dying extends Loopback {
  override lookup(...parameters: Parameters<Loopback['lookup']>): number {
    if (Buffer.from(parameters[1]).toString() === 'die') process.exit();
    return super.lookup(...parameters);
  }
}

serveInWorker(({ options }) => new Dying(options.lowers[0]!));
