/** The child behind StoreProcess of store-sandbox.ts: argument 1 is the store, messages are the calls. */
import { LocalStore } from '../../src/xet/store/local-store.ts';
import type { FileUpload } from '../../src/xet/file-upload.ts';
import { Uploader } from '../../src/xet/upload.ts';

const root = process.argv[2] as string;
const store = new LocalStore(root);
let warnings: string[] = [];
let uploader = openUploader();
let open: FileUpload | undefined;

function openUploader(): Uploader {
  return new Uploader(store, {
    compression: 'none',
    fsync: 'none',
    warn: (message) => warnings.push(message),
  });
}

const calls: Record<string, (argument: never) => unknown> = {
  add(bytes: Uint8Array) {
    const upload = uploader.begin();
    upload.write(bytes);
    return upload.finish();
  },
  begin(bytes: Uint8Array) {
    open = uploader.begin();
    open.write(bytes);
  },
  async seal() {
    open?.abort();
    open = undefined;
    await uploader.seal();
    uploader = openUploader();
    const told = warnings;
    warnings = [];
    return told;
  },
  publish(count: number) {
    for (let i = 0; i < count; i++) new LocalStore(root).catalog.publish({ rebuild: i % 2 === 1 });
  },
};

process.on('message', async ({ name, argument }: { name: string; argument: unknown }) => {
  try {
    process.send?.({ result: await calls[name]?.(argument as never) });
  } catch (error) {
    process.send?.({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
});
process.on('disconnect', () => process.exit());
process.send?.({ ready: true });
