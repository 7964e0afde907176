# Makes the index of a volume that has none, when the sidecar has brought the repositories in.
site=${SITE_FOLDER:-/var/gerrit}
port=${HEALTH_PORT:-7421}

indexed() {
  for kind in accounts changes groups projects; do
    git config --file "$site/index/gerrit_index.config" --get-regexp "^index\.${kind}_[0-9]+\.ready\$" true \
      > /dev/null 2>&1 || return 1
  done
}

# The node has caught up. A sidecar that does not run is asked for nothing.
ready() {
  [ "$SIDECAR" = true ] || return 0
  (
    exec 3<> "/dev/tcp/127.0.0.1/$port"
    printf 'GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
    read -r _ status _ <&3
    [ "$status" = 200 ]
  ) 2> /dev/null
}

# named KEY DEFAULT: the folder of a project whose name is a setting.
named() {
  echo "$site/git/$(git config --file "$site/etc/gerrit.config" "gerrit.$1" || echo "$2").git"
}

if indexed; then
  exit 0
fi
told=
until ready && [ -d "$(named allProjects All-Projects)" ] && [ -d "$(named allUsers All-Users)" ]; do
  if [ -z "$told" ]; then
    told='waits until the node has caught up, and has the repositories of the other sites'
    echo "$told"
  fi
  sleep 2
done
java -Duser.home=/tmp -jar "$site/bin/gerrit.war" reindex -d "$site"
