/** Byte grouping in plain JavaScript; assembly/bg4.ts says what it is. Both arrays have one length. */

export function groupBytes(data: Uint8Array, groups: Uint8Array): void {
  let at = 0;
  for (let turn = 0; turn < 4; turn++) {
    for (let i = turn; i < data.length; i += 4) groups[at++] = data[i] as number;
  }
}

export function ungroupBytes(groups: Uint8Array, data: Uint8Array): void {
  let at = 0;
  for (let turn = 0; turn < 4; turn++) {
    for (let i = turn; i < data.length; i += 4) data[i] = groups[at++] as number;
  }
}
