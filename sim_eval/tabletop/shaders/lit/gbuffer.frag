#version 450
// Base colour times ambient light plus up to three directional Lambert terms, all in the world frame.

layout(set = 2, binding = 0) uniform MaterialBuffer {
  vec4 emission;
  vec4 baseColor;
  float fresnel;
  float roughness;
  float metallic;
  float transmission;
  float ior;
  float transmissionRoughness;
  int textureMask;
  int padding1;
  vec4 textureTransforms[6];
} materialBuffer;

layout(set = 2, binding = 1) uniform sampler2D colorTexture;
layout(set = 2, binding = 2) uniform sampler2D roughnessTexture;
layout(set = 2, binding = 3) uniform sampler2D normalTexture;
layout(set = 2, binding = 4) uniform sampler2D metallicTexture;
layout(set = 2, binding = 5) uniform sampler2D emissionTexture;

struct PointLight {
  vec4 position;
  vec4 emission;
};

struct DirectionalLight {
  vec4 direction;
  vec4 emission;
};

struct SpotLight {
  vec4 position;
  vec4 direction;
  vec4 emission;
};

layout(set = 3, binding = 0) uniform SceneBuffer {
  vec4 ambientLight;
  DirectionalLight directionalLights[3];
  SpotLight spotLights[10];
  PointLight pointLights[10];
  SpotLight texturedLights[1];
} sceneBuffer;

layout(location = 0) in vec3 worldNormal;

layout(location = 0) out vec4 outColor;

void main() {
  vec3 light = sceneBuffer.ambientLight.rgb;
  for (int i = 0; i < 3; i++) {
    vec3 emission = sceneBuffer.directionalLights[i].emission.rgb;
    if (emission.r + emission.g + emission.b > 0.0) {
      vec3 toward = -normalize(sceneBuffer.directionalLights[i].direction.xyz);
      light += emission * max(dot(normalize(worldNormal), toward), 0.0);
    }
  }
  outColor = vec4(materialBuffer.baseColor.rgb * light, 1.0);
}
