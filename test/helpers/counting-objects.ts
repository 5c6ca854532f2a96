/** Objects that count what is asked of them, and can be told to fail or wait. */
import { ForwardedObjects, type ObjectCall } from '../../src/xet/objects/forwarded.ts';
import type { ObjectOptions, ObjectPart } from '../../src/xet/objects/objects.ts';

export class CountingObjects extends ForwardedObjects {
  readonly calls: ObjectCall[] = [];
  bytesRead = 0;
  /** Before each call; throwing fails it. */
  before: (call: ObjectCall) => void | Promise<void> = () => {};

  forget(): void {
    this.calls.length = 0;
    this.bytesRead = 0;
  }

  protected override async ask<T>(
    call: ObjectCall,
    options: ObjectOptions | undefined,
    action: (options: ObjectOptions | undefined) => Promise<T>,
  ): Promise<T> {
    this.calls.push(call);
    await this.before(call);
    const answer = await action(options);
    if (call.name.startsWith('read')) this.bytesRead += bytesOf(answer as ReadAnswer);
    return answer;
  }
}

type ReadAnswer = ObjectPart | 'unchanged' | undefined;

function bytesOf(answer: ReadAnswer): number {
  return answer === undefined || answer === 'unchanged' ? 0 : answer.bytes.length;
}
