# Copies Gerrit's programs, modules and plugins from the image to the volume, which hides them at /var/gerrit.
image=${IMAGE_SITE:-/var/gerrit}
volume=${VOLUME:-/volume}
if [ ! -f "$image/bin/gerrit.war" ]; then
  echo "gerrit.image: it has no $image/bin/gerrit.war; name another one, or set gerrit.publicImage.enabled to false" >&2
  exit 1
fi
for folder in bin cache db etc git index lib logs plugins tmp; do
  mkdir -p "$volume/$folder"
done
for folder in bin lib plugins; do
  if [ -d "$image/$folder" ]; then
    cp -R "$image/$folder/." "$volume/$folder/"
  fi
done
