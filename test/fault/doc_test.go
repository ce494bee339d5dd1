// Package fault owns the proof that create and delete stand being cut off anywhere: the real plans, run by the real
// engine on hosts in memory, killed at every edge and cut at every command.
// It must never know the inside of a step: what it simulates are the programs that steps run.
package fault
