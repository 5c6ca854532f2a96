/** Each setting with its value and where that came from, for a person or a program to read. No secrets. */
import {
  type ConfigSource,
  type ConfigSources,
  type GivenValue,
  resolveConfig,
  type SettingName,
} from './config.ts';
import { SETTINGS } from './config-settings.ts';

export interface ExplainedValue {
  /** Null where nothing is set; of a secret just `set` or null. */
  readonly value: string | number | null;
  readonly source: ConfigSource;
  readonly where: string;
}

export interface ExplainedSetting extends ExplainedValue {
  readonly name: SettingName;
  readonly secret: boolean;
  /** Other values that were given, and do not count; the next one in line first. */
  readonly overridden: readonly ExplainedValue[];
  /** How it is spelt in each source. */
  readonly spellings: {
    readonly environment: string;
    readonly git: string | null;
    readonly file: string | null;
  };
}

export interface ConfigExplanation {
  readonly settings: readonly ExplainedSetting[];
  readonly warnings: readonly string[];
  /** The user's file, there or not. */
  readonly file: string | null;
}

/** Throws INVALID_CONFIG as `loadConfig` does. */
export function explainConfig(sources: ConfigSources): ConfigExplanation {
  const { given, warnings, file } = resolveConfig(sources);
  const settings = SETTINGS.map((setting) => {
    const { name, variable, git, toml, secret = false } = setting;
    const explain = ({ value, source, where }: GivenValue): ExplainedValue => ({
      value: value === undefined ? null : secret ? 'set' : value,
      source,
      where,
    });
    const [inForce, ...others] = given.get(name)!.map(explain);
    return {
      name,
      secret,
      ...inForce!,
      overridden: others.filter(({ source }) => source !== 'default'),
      spellings: { environment: variable, git: git ?? null, file: toml?.join('.') ?? null },
    };
  });
  return { settings, warnings, file: file ?? null };
}
