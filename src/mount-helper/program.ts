/** From the words of a command line to an exit code. Each command loads what it needs and no more. */
import { EXIT_FALSE, EXIT_OK, EXIT_UNEXPECTED, exitCodeOf } from '../exit-codes.ts';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import type { ServeHere } from './backend.ts';
import { type CommandLine, parseCommandLine, usageLine } from './command-line.ts';
import { BACKENDS, SHELLS } from './commands.ts';
import type { MountResult } from './mount.ts';
import type { BackendName } from './mount-options.ts';
import { currentDirectory, resolvePath, showPath } from './path.ts';
import { recordPlaces } from './record-places.ts';
import { Report, readLogSettings, type Sink } from './report.ts';

/** What the program may touch; main.ts passes the process, tests pass something smaller. */
export interface Host {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: Sink;
  readonly stderr: Sink;
  /** Resolves with the first SIGINT, SIGTERM or SIGHUP; until it is called these end the process. */
  readonly stopped: () => Promise<void>;
  /** Where the process may stay to serve a mount. */
  readonly serveHere?: ServeHere | undefined;
}

interface Context extends CommandLine {
  readonly report: Report;
  readonly json: boolean;
  readonly host: Host;
}

/** Runs one command line; never throws. */
export async function runProgram(words: readonly Buffer[], host: Host): Promise<number> {
  const { stdout, stderr, env } = host;
  let report = new Report({
    stdout,
    stderr,
    quiet: false,
    verbose: false,
    logLevel: undefined,
    logFile: undefined,
  });
  let json = asksForJson(words);
  try {
    const line = parseCommandLine(words);
    const { flags } = line;
    json = flags.has('json');
    if (flags.has('help')) return await printManual(line, report);
    if (flags.has('version')) return await printVersion(report);
    report = new Report({
      stdout,
      stderr,
      quiet: flags.has('quiet'),
      verbose: flags.has('verbose'),
      ...readLogSettings(env),
    });
    return await ACTIONS[line.command.name]!({ ...line, report, json: flags.has('json'), host });
  } catch (error) {
    return describeFailure(error, report, json);
  }
}

/** For a command line that is not understood. */
function asksForJson(words: readonly Buffer[]): boolean {
  const texts = words.map(String);
  const end = texts.indexOf('--');
  return texts.slice(0, end < 0 ? texts.length : end).includes('--json');
}

/** With `json` the failure is a document, too (docs/exit-codes.md). */
function describeFailure(error: unknown, report: Report, json: boolean): number {
  const exitCode = exitCodeOf(error);
  const { code } = error as { code?: unknown };
  const isBug = exitCode === EXIT_UNEXPECTED && code === undefined;
  const message = messageOf(error).replaceAll('\n', ' ');
  if (isBug && error instanceof Error) report.detail(error.stack ?? '');
  const said = isBug ? `unexpected failure: ${message} (--verbose tells more)` : message;
  if (json)
    report.jsonError({ error: { code: typeof code === 'string' ? code : null, exitCode, message: said } });
  report.error(said);
  return exitCode;
}

type Action = (context: Context) => Promise<number>;

const ACTIONS: Readonly<Record<string, Action>> = {
  '': mountAction,
  probe: probeAction,
  list: listAction,
  umount: umountAction,
  repair: repairAction,
  exec: (context) => execAction(context, context.operands.slice(1)),
  enter: (context) => execAction(context, [Buffer.from(context.host.env.SHELL || '/bin/sh')]),
  doctor: doctorAction,
  completion: completionAction,
};

async function printManual({ command }: CommandLine, report: Report): Promise<number> {
  const { manual } = await import('./help.ts');
  report.data(manual(command));
  return EXIT_OK;
}

async function printVersion(report: Report): Promise<number> {
  const { packageVersion } = await import('../version.ts');
  report.data(packageVersion());
  return EXIT_OK;
}

// ---- mounting --------------------------------------------------------------------------------

async function mountAction(context: Context): Promise<number> {
  const { flags, values, operands, report, json, host } = context;
  const [{ parseMountOptions }, { mountOverlay }] = await Promise.all([
    import('./options.ts'),
    import('./mount.ts'),
  ]);
  const words = {
    options: values.get('option') ?? [],
    operands,
    backend: backendOf(context),
    foreground: flags.has('foreground'),
    debug: flags.has('debug'),
  };
  const options = parseMountOptions(words, currentDirectory());
  // From here on a signal means: end the mount, too.
  const stopped = options.foreground ? host.stopped() : undefined;
  const mounted = await mountOverlay(options, host.env, host.serveHere);
  announce(mounted, report, json);
  if (stopped === undefined) return EXIT_OK;
  const { stayWithMount } = await import('./foreground.ts');
  return stayWithMount(mounted, recordPlaces(host.env), stopped);
}

function backendOf({ values }: Context): BackendName | 'auto' | undefined {
  const given = values.get('backend')?.at(-1)?.toString();
  return BACKENDS.find((name) => name === given);
}

function announce(
  { merged, backend, rejected, dropped, pid }: MountResult,
  report: Report,
  json: boolean,
): void {
  if (json) {
    const bytes = merged.toString();
    const exact = Buffer.from(bytes).equals(merged) ? {} : { mergedBase64: merged.toString('base64') };
    report.json({ merged: bytes, ...exact, backend, pid: pid ?? null, rejected, dropped: dropped ?? [] });
  }
  for (const { backend: other, reason } of rejected) report.note(`not ${other}: ${reason}`);
  if (rejected.length > 0) report.note(`${showPath(merged)} is served by ${backend}`);
  else report.detail(`${showPath(merged)} is served by ${backend}`);
  if (dropped !== undefined && dropped.length > 0) {
    report.note(`this kernel does not know ${dropped.join(', ')}; mounted without`);
  }
}

// ---- the other commands ----------------------------------------------------------------------

async function probeAction(context: Context): Promise<number> {
  const { operands, report, json, host } = context;
  const { formatProbe, probe, probeJson } = await import('./probe.ts');
  const directory = absolute(operands[0] ?? currentDirectory());
  const found = await probe(directory, { backend: backendOf(context) ?? 'auto', env: host.env });
  if (json) report.json(probeJson(found));
  else for (const line of formatProbe(found)) report.data(line);
  return found.auto === undefined ? EXIT_FALSE : EXIT_OK;
}

async function listAction({ report, json, host }: Context): Promise<number> {
  const { formatMounts, listMounts, mountJson } = await import('./list.ts');
  const { mounts, damaged } = listMounts(recordPlaces(host.env));
  if (json) report.json(mounts.map(mountJson));
  else for (const line of formatMounts(mounts)) report.data(line);
  for (const { file, message } of damaged) report.error(`${file}: ${message}`);
  return damaged.length > 0 ? EXIT_FALSE : EXIT_OK;
}

async function umountAction({ command, flags, operands, report, json, host }: Context): Promise<number> {
  const all = flags.has('all');
  if (all === operands.length > 0) {
    throw new Git2dbError('USAGE', `expected either MERGED... or --all; usage: ${usageLine(command)}`);
  }
  const { umountEach } = await import('./umount.ts');
  const options = { force: flags.has('force'), lazy: flags.has('lazy') };
  const outcomes = await umountEach(recordPlaces(host.env), all ? 'all' : operands.map(absolute), options);
  if (json) {
    const { pathJson } = await import('./list.ts');
    report.json(
      outcomes.map(({ merged, error, note }) => ({
        ...pathJson('merged', merged),
        ended: error === undefined,
        code: error instanceof Git2dbError ? error.code : null,
        message: error?.message ?? note ?? null,
      })),
    );
  }
  for (const { error, note } of outcomes) {
    if (error !== undefined) report.error(messageOf(error));
    else if (note !== undefined) report.note(note);
  }
  const failures = outcomes.filter(({ error }) => error !== undefined);
  if (failures.length === 0) return EXIT_OK;
  return outcomes.length === 1 ? exitCodeOf(failures[0]!.error) : EXIT_FALSE;
}

async function repairAction({ flags, operands, report, json, host }: Context): Promise<number> {
  const [{ repairJson, repairMounts }, { mountOverlay }] = await Promise.all([
    import('./repair.ts'),
    import('./mount.ts'),
  ]);
  const outcomes = await repairMounts(recordPlaces(host.env), {
    remount: (options) => mountOverlay(options, host.env),
    dryRun: flags.has('dry-run'),
    onUnknown: (merged) =>
      report.note(`${showPath(merged)} is no mount of git2db, and there is no record of one`),
    ...(operands.length > 0 ? { only: operands.map(absolute) } : {}),
  });
  if (json) report.json(outcomes.map(repairJson));
  for (const { message, isOpen } of outcomes) {
    if (isOpen) report.error(message);
    else if (!json) report.data(flags.has('dry-run') ? `dry run: ${message}` : message);
  }
  return outcomes.some(({ isOpen }) => isOpen) ? EXIT_FALSE : EXIT_OK;
}

async function execAction({ operands, report, host }: Context, command: readonly Buffer[]): Promise<number> {
  const { execInMount } = await import('./exec.ts');
  const { status, message } = execInMount(recordPlaces(host.env), absolute(operands[0]!), command, host.env);
  report.error(message);
  return status;
}

async function doctorAction({ report, json, host }: Context): Promise<number> {
  const { doctorJson, examine, formatFindings } = await import('./doctor.ts');
  const findings = examine(host.env);
  if (json) report.json(findings.map(doctorJson));
  else for (const line of formatFindings(findings)) report.data(line);
  return findings.some(({ state }) => state === 'problem') ? EXIT_FALSE : EXIT_OK;
}

async function completionAction({ operands, report }: Context): Promise<number> {
  const shell = SHELLS.find((name) => name === operands[0]!.toString());
  if (shell === undefined) {
    throw new Git2dbError('USAGE', `expected one of ${SHELLS.join(', ')}, found '${operands[0]}'`);
  }
  const { completionScript } = await import('./completion.ts');
  report.data(completionScript(shell));
  return EXIT_OK;
}

function absolute(path: Buffer): Buffer {
  return resolvePath(currentDirectory(), path);
}
