package step

import (
	"context"
	"errors"
	"fmt"
	"io"

	"slipway.dev/slipway/internal/host"
)

// RunFed runs a command on the host and feeds it what fill writes, while it writes. An error of the command comes before
// one of fill, which usually only says that nobody reads any more.
func (w Writer) RunFed(ctx context.Context, argv []string, fill func(io.Writer) error) error {
	reader, writer := io.Pipe()
	filled := make(chan error, 1)
	go func() {
		err := fill(writer)
		writer.CloseWithError(err)
		filled <- err
	}()
	_, runErr := w.Run(ctx, host.Command{Argv: argv, Stdin: reader})
	reader.CloseWithError(errors.New("the host stopped reading"))
	if err := <-filled; runErr == nil && err != nil {
		return fmt.Errorf("cannot send it all: %w", err)
	}
	return runErr
}
