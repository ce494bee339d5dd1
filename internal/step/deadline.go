package step

import "time"

// Deadliner is a step that may take another time than the engine's default of ten minutes.
type Deadliner interface {
	// Deadline bounds one run of the step, from its first Check to the clean one, waits and new tries included.
	// Zero or less means the default.
	Deadline() time.Duration
}
