/** The line of one request in the access log: never a token, a query, or a character that could forge a line. */
export interface LoggedRequest {
  readonly time: Date;
  readonly id: string;
  readonly client: string;
  readonly identity: string;
  readonly method: string;
  /** Percent-encoded, without the query. */
  readonly path: string;
  readonly route: string;
  readonly status: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly milliseconds: number;
  readonly userAgent: string | undefined;
  /** The answer did not reach its end. */
  readonly aborted: boolean;
}

const MAX_TEXT = 512;

export function formatLogLine(entry: LoggedRequest, format: 'json' | 'text'): string {
  const path = printable(entry.path);
  const agent = printable(entry.userAgent ?? '-');
  const milliseconds = Math.round(entry.milliseconds * 10) / 10;
  if (format === 'json') {
    const { time, id, client, identity, method, route, status, bytesIn, bytesOut, aborted } = entry;
    return JSON.stringify({
      time: time.toISOString(),
      id,
      client,
      identity,
      method,
      path,
      route,
      status,
      bytesIn,
      bytesOut,
      milliseconds,
      userAgent: agent,
      ...(aborted ? { aborted } : {}),
    });
  }
  const { time, client, identity, method, status, bytesIn, bytesOut, id } = entry;
  const end = entry.aborted ? ' aborted' : '';
  return `${time.toISOString()} ${client} ${identity} "${method} ${path}" ${status} in=${bytesIn} out=${bytesOut} ${milliseconds}ms id=${id} "${agent}"${end}`;
}

function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is replaced
  return text.slice(0, MAX_TEXT).replace(/[\x00-\x1f\x7f-\x9f"\\]/g, '?');
}
