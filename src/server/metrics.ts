/** Counters of a server in the text format of Prometheus, version 0.0.4. */
import type { Route } from './router.ts';

/** Upper bounds of the latency histogram, seconds. */
const BUCKETS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300] as const;

interface Series {
  readonly counts: number[];
  sum: number;
  count: number;
}

export class Metrics {
  readonly #requests = new Map<string, number>();
  readonly #latency = new Map<string, Series>();
  readonly #store = new Map<string, number>();
  #bytesIn = 0;
  #bytesOut = 0;
  #dropped = 0;
  #limited = 0;
  inFlight = 0;
  connections: () => number = () => 0;

  /** `seconds`: from the head of the request to the last byte of the answer. */
  request(route: Route['name'], method: string, status: number, seconds: number): void {
    const labels = `route="${route}",method="${method}",status="${status}"`;
    this.#requests.set(labels, (this.#requests.get(labels) ?? 0) + 1);
    let series = this.#latency.get(route);
    if (series === undefined) {
      series = { counts: BUCKETS.map(() => 0), sum: 0, count: 0 };
      this.#latency.set(route, series);
    }
    series.count++;
    series.sum += seconds;
    for (const [i, bound] of BUCKETS.entries()) {
      if (seconds <= bound) series.counts[i] = (series.counts[i] as number) + 1;
    }
  }

  bytes(received: number, sent: number): void {
    this.#bytesIn += received;
    this.#bytesOut += sent;
  }

  storeOperation(operation: string): void {
    this.#store.set(operation, (this.#store.get(operation) ?? 0) + 1);
  }

  connectionDropped(): void {
    this.#dropped++;
  }

  rateLimited(): void {
    this.#limited++;
  }

  text(): string {
    const lines: string[] = [];
    const metric = (name: string, type: string, help: string, samples: readonly string[]) => {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...samples);
    };
    const single = (name: string, type: string, help: string, value: number) =>
      metric(name, type, help, [`${name} ${value}`]);
    metric(
      'git2db_http_requests_total',
      'counter',
      'Requests that were answered.',
      [...this.#requests].map(([labels, count]) => `git2db_http_requests_total{${labels}} ${count}`),
    );
    const name = 'git2db_http_request_duration_seconds';
    const samples = [...this.#latency].flatMap(([route, { counts, sum, count }]) => [
      ...BUCKETS.map((bound, i) => `${name}_bucket{route="${route}",le="${bound}"} ${counts[i]}`),
      `${name}_bucket{route="${route}",le="+Inf"} ${count}`,
      `${name}_sum{route="${route}"} ${sum}`,
      `${name}_count{route="${route}"} ${count}`,
    ]);
    metric(name, 'histogram', 'From the head of a request to the last byte of its answer.', samples);
    single('git2db_http_received_bytes_total', 'counter', 'Bytes of request bodies.', this.#bytesIn);
    single('git2db_http_sent_bytes_total', 'counter', 'Bytes of answer bodies.', this.#bytesOut);
    single('git2db_http_requests_in_flight', 'gauge', 'Requests under way.', this.inFlight);
    single('git2db_http_connections', 'gauge', 'Open connections.', this.connections());
    single(
      'git2db_http_connections_dropped_total',
      'counter',
      'Connections beyond the limit.',
      this.#dropped,
    );
    single('git2db_http_rate_limited_total', 'counter', 'Requests answered with 429.', this.#limited);
    metric(
      'git2db_store_operations_total',
      'counter',
      'Calls to the store.',
      [...this.#store].map(
        ([operation, n]) => `git2db_store_operations_total{operation="${operation}"} ${n}`,
      ),
    );
    single('process_resident_memory_bytes', 'gauge', 'Resident memory.', process.memoryUsage.rss());
    return `${lines.join('\n')}\n`;
  }
}
