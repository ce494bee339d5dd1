package app

import (
	"context"
	"log/slog"
	"net/http"
	"slices"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/blob"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/gateway"
	"slipway.dev/slipway/internal/gateway/auditlog"
	"slipway.dev/slipway/internal/gateway/clusterproxy"
	"slipway.dev/slipway/internal/gateway/login"
	"slipway.dev/slipway/internal/gateway/own"
	"slipway.dev/slipway/internal/gateway/stream"
)

// door is everything behind the port, as people meet it. The test of the table of access opens the same one.
type door struct {
	people *people
	// live talks to the API itself, past every cache; cache may be a moment behind.
	live  client.Client
	cache client.Reader
	long  *gateway.Long
	// upstream is how the gateway reaches the API server.
	upstream *rest.Config
	blobs    interface {
		blob.Store
		blob.Follower
	}
	bundles *bundle.Store
	// cluster says how Slipway itself reaches a managed cluster.
	cluster func(ctx context.Context, project, name string) (*rest.Config, error)
	// audit is written to, trail is read.
	audit audit.Recorder
	trail auditlog.Log
	ready map[string]func(context.Context) error
	log   *slog.Logger
}

// routes lists every route below /slipway/, each with its rule. A door without parts lists the same.
func (d *door) routes() []gateway.Route {
	return slices.Concat(
		stream.Routes(stream.Deps{Client: d.live, Blobs: d.blobs, Log: d.log}),
		clusterproxy.Routes(clusterproxy.Deps{
			Client: d.live, Access: access.NewAuthorizer(d.live), Tokens: d.people.Tokens, CA: d.people.CA, Config: d.cluster, Log: d.log,
		}),
		own.Routes(d.own()),
		login.Routes(d.people.Deps),
		auditlog.Routes(d.trail),
	)
}

func (d *door) own() own.Deps {
	return own.Deps{Client: d.live, Cache: d.cache, Access: access.NewAuthorizer(d.live)}
}

// handler serves the port.
func (d *door) handler() (http.Handler, error) {
	routes, err := gateway.NewRoutes(gateway.RouteDeps{Access: access.NewAuthorizer(d.live), Audit: d.audit, Long: d.long, Log: d.log}, d.routes()...)
	if err != nil {
		return nil, err
	}
	return gateway.NewHandler(gateway.Config{
		Upstream: d.upstream, Authenticators: d.people.authenticators, Long: d.long, Checks: d.ready,
		Registry: bundle.NewRegistry(d.bundles, auth.NewRegistryTokens(d.live, 0).Authorize),
		Routes:   routes, Lists: own.Lists(d.own()), Audit: d.audit, Logger: d.log,
	})
}
