import { Command } from 'commander';
import { addressOf, indexOf } from '../../model/index.ts';
import {
  type CliContext,
  examples,
  type NetworkOptions,
  withClient,
  withNetworkOptions,
} from '../context.ts';
import { printable } from '../result.ts';
import { print } from '../terminal.ts';

interface SubmitOptions extends NetworkOptions {
  readonly orderingKey?: string;
}

function withCallArguments(command: Command): Command {
  return withNetworkOptions(command)
    .argument('<contract>', 'name of the contract')
    .argument('<function>', 'function, or ContractClass:function')
    .argument('[arguments...]', 'arguments as text; put -- before one that starts with -');
}

/** `daybook submit`: commits one transaction. */
export function submitCommand(context: CliContext): Command {
  return withCallArguments(new Command('submit'))
    .description('Call a contract and commit what it did.')
    .option('--ordering-key <key>', 'keep the order of calls with the same key')
    .addHelpText(
      'after',
      examples(
        'daybook submit bank transfer alice bob 12.50',
        'daybook submit bank open carol Carol 100 --json',
      ),
    )
    .action(
      async (contract: string, functionName: string, args: string[], options: SubmitOptions) => {
        const { io, terminal } = context;
        const started = io.clock.monotonicMs();
        const result = await withClient(context, options, ({ client }) =>
          client.submit(contract, functionName, args, { orderingKey: options.orderingKey ?? '' }),
        );
        const { txId, position } = result;
        const ms = io.clock.monotonicMs() - started;
        const address = addressOf(position);
        const index = indexOf(position);
        const answer = printable(result.bytes());
        print(
          terminal,
          options.json,
          { txId, position, address, index, result: answer.json },
          () => [
            ...(answer.text === '' ? [] : [answer.text]),
            `committed at address ${address}, record ${index} (${ms.toFixed(0)} ms)`,
            `txId ${txId}`,
          ],
        );
      },
    );
}

/** `daybook evaluate`: runs a function without committing anything. */
export function evaluateCommand(context: CliContext): Command {
  return withCallArguments(new Command('evaluate'))
    .description('Call a contract on committed state and write nothing.')
    .addHelpText(
      'after',
      examples('daybook evaluate bank balance alice', 'daybook evaluate bank balance alice --json'),
    )
    .action(
      async (contract: string, functionName: string, args: string[], options: NetworkOptions) => {
        const result = await withClient(context, options, ({ client }) =>
          client.evaluate(contract, functionName, args),
        );
        const answer = printable(result.bytes());
        print(context.terminal, options.json, { result: answer.json }, () => answer.text);
      },
    );
}
