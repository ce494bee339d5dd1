package ssh

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxOpenTries bounds how often a refused channel is asked for again.
const maxOpenTries = 4

// channel waits for a place on the connection and opens a channel. Release gives the place back.
// When sshd allows fewer sessions than expected, the place is given up for as long as the connection lasts.
func (s *Session) channel(ctx context.Context) (channel *ssh.Session, release func(), err error) {
	for {
		release, err := s.slot(ctx)
		if err != nil {
			return nil, nil, err
		}
		channel, err := s.open(ctx)
		if err == nil {
			return channel, release, nil
		}
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) {
			if s.missing.Add(1) < maxChannels {
				s.active.Add(-1)
				continue
			}
			s.fail(err)
		}
		release()
		return nil, nil, err
	}
}

// slot waits for one of the places on the connection.
func (s *Session) slot(ctx context.Context) (release func(), err error) {
	select {
	case <-s.done:
		return nil, s.cause
	default:
	}
	select {
	case s.slots <- struct{}{}:
		s.active.Add(1)
		return func() {
			<-s.slots
			s.touch()
			s.active.Add(-1)
		}, nil
	case <-s.done:
		return nil, s.cause
	case <-ctx.Done():
		// sshd counts commands whose caller is gone until they end; a connection full of them is useless.
		if s.abandoned.Load() >= maxChannels/2 {
			s.fail(errors.New("abandoned commands fill the connection"))
		}
		return nil, ctx.Err()
	}
}

// open opens a channel. sshd frees a session only on its next turn after the channel was closed, so a
// refusal is answered by one round trip, which takes such a turn, and another try.
func (s *Session) open(ctx context.Context) (*ssh.Session, error) {
	for try := 1; ; try++ {
		channel, err := s.openOnce(ctx)
		var refused *ssh.OpenChannelError
		if err == nil || !errors.As(err, &refused) {
			return channel, err
		}
		if try == maxOpenTries {
			return nil, fmt.Errorf("cannot open a channel: %w", clean(err))
		}
		if err := s.ping(); err != nil {
			s.fail(err)
			return nil, err
		}
	}
}

func (s *Session) openOnce(ctx context.Context) (*ssh.Session, error) {
	type opened struct {
		session *ssh.Session
		err     error
	}
	answer := make(chan opened, 1)
	go func() {
		session, err := s.client.NewSession()
		answer <- opened{session, err}
	}()
	timer := time.NewTimer(openTimeout)
	defer timer.Stop()
	select {
	case o := <-answer:
		return o.session, o.err
	case <-timer.C:
		err := fmt.Errorf("cannot open a channel: no answer in %v", openTimeout)
		s.fail(err)
		return nil, err
	case <-ctx.Done():
		go func() {
			if o := <-answer; o.err == nil {
				_ = o.session.Close()
			}
		}()
		return nil, ctx.Err()
	case <-s.done:
		return nil, s.cause
	}
}
