// Package operation owns the engine: it runs one frozen plan against hosts, records every transition in the
// platform's API before the next, and goes on where it was after a crash, a cut connection or an abort.
// It must never know what a step does or decide what a plan holds, and never act without a record.
package operation
