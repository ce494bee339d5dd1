package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// sweepEvery is how often what is over is deleted. It was refused all the time.
const sweepEvery = time.Hour

// EndAll ends every session and token of a user, such as when the user is disabled: enabling does not bring them back.
func EndAll(ctx context.Context, c client.Client, userName string) error {
	return errors.Join(NewSessions(c).EndAll(ctx, userName, ""), NewTokens(c).EndAll(ctx, userName, ""))
}

// Sweep deletes, every hour until ctx ends, the sessions and tokens that are over and those of users who are disabled
// or gone. What fails is logged and tried again the next time.
func Sweep(ctx context.Context, c client.Client, log *slog.Logger) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		if err := sweep(ctx, c); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "cannot delete sessions and tokens that are over", "err", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func sweep(ctx context.Context, c client.Client) error {
	var users v1alpha1.UserList
	if err := c.List(ctx, &users); err != nil {
		return fmt.Errorf("cannot list users: %w", err)
	}
	active := map[string]*v1alpha1.User{}
	for i, u := range users.Items {
		if !u.Spec.Disabled {
			active[u.Name] = &users.Items[i]
		}
	}
	var errs []error
	for _, s := range []store{NewSessions(c).store, NewTokens(c).store} {
		all, err := s.list(ctx, client.HasLabels{LabelUser})
		if err != nil {
			return err
		}
		for _, e := range all {
			u := active[e.User]
			belongs := e.Server != "" || (u != nil && u.UID == e.UID)
			// A user who was made after the list was read is not gone.
			if e.live(time.Now()) && (belongs || time.Since(e.Made) < time.Minute) {
				continue
			}
			errs = append(errs, s.delete(ctx, e.id))
		}
	}
	return errors.Join(errs...)
}
