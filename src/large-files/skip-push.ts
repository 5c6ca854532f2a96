/**
 * In the environment of git: what the pre-push hook has not to look after. `1`: nothing at all; else object ids with
 * blanks between them, whose content whoever started git has sent.
 */
export const SKIP_PUSH = 'GIT2DB_SKIP_PUSH';
