# Creates All-Projects and All-Users, at the first pod of the first site, and before Lockstep was ever there.
site=${SITE_FOLDER:-/var/gerrit}
config=${CONFIG:-/etc/gerrit-config/gerrit.config}
case "$POD_NAME" in
  *-0) ;;
  *)
    echo 'gerrit.publicImage.initialise: pod 0 does it, and this pod gets its repositories from there'
    exit 0
    ;;
esac
if [ -d "$site/git/.lockstep" ]; then
  echo 'gerrit.publicImage.initialise: Lockstep was here before, so nothing is created; set it to false'
  exit 0
fi
cp "$config" "$site/etc/gerrit.config"
# The sidecar does not run yet.
for module in installDbModule installModule; do
  git config --file "$site/etc/gerrit.config" --unset "gerrit.$module" || true
done
gerrit() {
  java -Duser.home=/tmp -jar "$site/bin/gerrit.war" "$@" -d "$site"
}
gerrit init --batch --no-auto-start --install-all-plugins
# All sites have the host keys of gerrit.shared, and no others.
rm -f "$site"/etc/ssh_host_*
gerrit reindex
