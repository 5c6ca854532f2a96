/** Starts a server as whoever runs this; arguments: lower, merged. Prints what `startFuse` says, as JSON. */
import { startFuse } from '../../../src/mount-helper/fuse/start.ts';
import { messageOf } from '../../../src/xet/errors.ts';
import { loopbackOptions, loopbackStart } from './loopback-mount.ts';

const [lower, merged, foreground] = process.argv.slice(2) as [string, string, string?];
// Paths come in base64: an argument is text, and they need not be.
const options = loopbackOptions(Buffer.from(lower, 'base64'), Buffer.from(merged, 'base64'));
try {
  const { pid, device, ended } = await startFuse(
    loopbackStart(options, { foreground: foreground === 'foreground' }),
  );
  process.stdout.write(`${JSON.stringify({ pid, device })}\n`);
  if (foreground === 'foreground') process.exitCode = await ended;
} catch (error) {
  process.stdout.write(`${JSON.stringify({ error: messageOf(error) })}\n`);
}
