/** Entry point `git2db`. */
export * from './xet/index.ts';
