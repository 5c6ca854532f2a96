/** `word` as a shell needs it written. */
export function shellWord(word: string | Uint8Array): string {
  const text = typeof word === 'string' ? word : Buffer.from(word).toString('utf8');
  if (typeof word !== 'string' && !Buffer.from(text).equals(word)) return ansiQuoted(word);
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** For bytes that are no UTF-8; bash, zsh and ksh read this. */
function ansiQuoted(bytes: Uint8Array): string {
  const escaped = Array.from(bytes, (byte) =>
    byte > 0x20 && byte < 0x7f && byte !== 0x27 && byte !== 0x5c
      ? String.fromCharCode(byte)
      : `\\${byte.toString(8).padStart(3, '0')}`,
  );
  return `$'${escaped.join('')}'`;
}
