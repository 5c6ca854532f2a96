/** Entry point `git2db`. */
export * from './registry/index.ts';
export * from './xet/index.ts';
export * as xet from './xet/index.ts';
