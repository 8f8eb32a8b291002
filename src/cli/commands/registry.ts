import type { Command } from 'commander';
import type { CliContext } from '../context.ts';
import { define as defineGc } from './registry-gc.ts';
import { define as defineServe } from './registry-serve.ts';

export function define(command: Command, context: CliContext): void {
  defineServe(command.command('serve'), context);
  defineGc(command.command('gc'), context);
}
