package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// LoginSetting gives Setting login with the default of everything that is not set; OIDC stays nil when it is not set.
func LoginSetting(ctx context.Context, c client.Reader) (*v1alpha1.LoginSetting, error) {
	var setting v1alpha1.Setting
	if err := c.Get(ctx, client.ObjectKey{Name: v1alpha1.SettingLogin}, &setting); err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("cannot read Setting login: %w", err)
	}
	login := setting.Spec.Login
	if login == nil {
		login = &v1alpha1.LoginSetting{}
	}
	login.Password.MinLength = cmp.Or(login.Password.MinLength, 12)
	login.Password.MinClasses = cmp.Or(login.Password.MinClasses, 1)
	login.SessionIdleMinutes = cmp.Or(login.SessionIdleMinutes, 60)
	login.SessionHours = cmp.Or(login.SessionHours, 12)
	login.TokenDays = cmp.Or(login.TokenDays, 90)
	return login, nil
}

// mayLogIn refuses a user who is disabled.
func mayLogIn(u *v1alpha1.User) error {
	if u.Spec.Disabled || u.DeletionTimestamp != nil {
		return forbidden("the account of %s is disabled; ask an administrator", u.Identity())
	}
	if !usableIdentity(u) {
		return forbidden("that name belongs to the platform")
	}
	return nil
}

func forbidden(format string, args ...any) error {
	err := apierrors.NewForbidden(schema.GroupResource{}, "", errors.New(""))
	err.ErrStatus.Message = fmt.Sprintf(format, args...)
	return err
}

// ValidName says that a name can be that of a user, a project or a cluster.
func ValidName(name string) bool {
	return len(name) <= 63 && regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`).MatchString(name)
}

func validCluster(name string) bool {
	project, cluster, ok := strings.Cut(name, "/")
	return ok && ValidName(project) && ValidName(cluster)
}
